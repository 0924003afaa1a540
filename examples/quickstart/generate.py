#!/usr/bin/env python3
"""Writes orders.jsonl: what Debezium's PostgreSQL connector would emit for a small web shop.

The same bytes every time. Run it from anywhere: python3 examples/quickstart/generate.py
"""

import json
import pathlib
import random
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

SEED = 20260105
TRANSACTION_COUNT = 330
START = datetime(2026, 1, 5, 8, 0, tzinfo=timezone.utc)
FIRST_NAMES = ["Ada", "Björn", "Chioma", "Dmitri", "Elena", "Farid", "Grace", "Hiro", "Inês", "Jonas", "Kavya", "Łukasz"]
LAST_NAMES = ["Abe", "Brandt", "Costa", "Dubois", "Eze", "Fischer", "García", "Haddad", "Ivanova", "Jensen", "Kowalski"]
CITIES = ["Berlin", "Kraków", "Lagos", "Lisboa", "Osaka", "Pune", "São Paulo", "Tromsø"]
PRODUCTS = [("espresso beans 1 kg", "18.90"), ("grinder", "129.00"), ("filter papers", "3.45"), ("kettle", "64.50"),
            ("scale", "39.99"), ("milk jug", "17.25"), ("cup, blue", "9.80"), ("descaler", "6.15")]


class Shop:
    """The shop's tables, and the events of every change of them."""

    def __init__(self, rng):
        self.rng = rng
        self.now = START
        self.lsn = 26_738_688
        self.tx_id = 7_400
        self.tables = {"customers": {}, "orders": {}, "order_items": {}}
        self.lines = []
        self.in_transaction = []

    def key(self, table, row):
        return (row["order_id"], row["line_no"]) if table == "order_items" else row[table[:-1] + "_id"]

    def put(self, table, row, op=None):
        key = self.key(table, row)
        before = self.tables[table].get(key)
        self.tables[table][key] = row
        self.emit(op or ("u" if before else "c"), table, before, row)

    def delete(self, table, key):
        self.emit("d", table, self.tables[table].pop(key), None)

    def emit(self, op, table, before, after):
        self.lsn += self.rng.randrange(80, 400, 8)
        now_ms = int(self.now.timestamp() * 1000)
        self.in_transaction.append({
            "before": before,
            "after": after,
            "source": {
                "version": "3.0.0.Final", "connector": "postgresql", "name": "webshop", "ts_ms": now_ms,
                "snapshot": "true" if op == "r" else "false", "db": "webshop", "schema": "shop", "table": table,
                "txId": self.tx_id, "lsn": self.lsn, "xmin": None,
            },
            "transaction": None,
            "op": op,
            "ts_ms": now_ms + self.rng.randrange(3, 40),
        })

    def commit(self):
        order = {}
        for total_order, event in enumerate(self.in_transaction, 1):
            table = event["source"]["table"]
            order[table] = order.get(table, 0) + 1
            if event["op"] != "r":
                event["transaction"] = {"id": f"{self.tx_id}:{self.lsn}", "total_order": total_order,
                                        "data_collection_order": order[table]}
            self.lines.append(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
        self.in_transaction = []
        self.tx_id += 1
        self.now += timedelta(seconds=self.rng.randrange(20, 900), microseconds=self.rng.randrange(1_000_000))

    def timestamp(self):
        return self.now.isoformat().replace("+00:00", "Z")

    def new_customer(self, op=None):
        number = 1000 + len(self.tables["customers"]) + 1
        first, last = self.rng.choice(FIRST_NAMES), self.rng.choice(LAST_NAMES)
        since = date(2025, 1, 1) + timedelta(days=self.rng.randrange(365))
        self.put("customers", {
            "customer_id": number, "name": f"{first} {last}", "email": f"customer{number}@example.com",
            "city": self.rng.choice(CITIES), "is_business": self.rng.random() < 0.2,
            "since": (since - date(1970, 1, 1)).days, "updated_at": self.timestamp(),
        }, op)

    def customer_moves(self):
        row = dict(self.rng.choice(list(self.tables["customers"].values())))
        row["city"] = self.rng.choice([city for city in CITIES if city != row["city"]])
        row["updated_at"] = self.timestamp()
        self.put("customers", row)

    def new_order(self):
        order_id = 50_000 + self.tx_id
        items = []
        for line_no in range(1, self.rng.choice([1, 1, 2, 2, 3, 4]) + 1):
            product, price = self.rng.choice(PRODUCTS)
            items.append({"order_id": order_id, "line_no": line_no, "product": product,
                          "quantity": self.rng.randrange(1, 5), "unit_price": price})
        self.put("orders", {
            "order_id": order_id, "customer_id": self.rng.choice(list(self.tables["customers"])), "status": "new",
            "total": total(items), "note": self.rng.choice([None, None, "leave at the door", "gift wrap, please"]),
            "created_at": self.timestamp(), "updated_at": self.timestamp(),
        })
        for item in items:
            self.put("order_items", item)

    def open_order(self):
        return self.rng.choice([row for row in self.tables["orders"].values() if row["status"] in ("new", "paid")])

    def items_of(self, order_id):
        return [row for key, row in self.tables["order_items"].items() if key[0] == order_id]

    def order_advances(self):
        row = self.open_order()
        self.put("orders", {**row, "status": {"new": "paid", "paid": "shipped"}[row["status"]],
                            "updated_at": self.timestamp()})

    def order_changes(self):
        row = self.open_order()
        items = self.items_of(row["order_id"])
        changed = self.rng.choice(items)
        if len(items) > 1 and self.rng.random() < 0.4:
            self.delete("order_items", (changed["order_id"], changed["line_no"]))
        else:
            self.put("order_items", {**changed, "quantity": changed["quantity"] + self.rng.randrange(1, 4)})
        self.put("orders", {**row, "total": total(self.items_of(row["order_id"])), "updated_at": self.timestamp()})

    def order_is_cancelled(self):
        order_id = self.open_order()["order_id"]
        for item in self.items_of(order_id):
            self.delete("order_items", (order_id, item["line_no"]))
        self.delete("orders", order_id)


def total(items):
    return str(sum(Decimal(item["unit_price"]) * item["quantity"] for item in items))


def main():
    rng = random.Random(SEED)
    shop = Shop(rng)
    for _ in range(40):
        shop.new_customer(op="r")
    shop.commit()
    for _ in range(25):
        shop.new_order()
        shop.commit()
    steps = [shop.new_order, shop.order_advances, shop.order_changes, shop.order_is_cancelled, shop.new_customer,
             shop.customer_moves]
    for _ in range(TRANSACTION_COUNT):
        rng.choices(steps, weights=[30, 32, 14, 8, 5, 8])[0]()
        shop.commit()
    path = pathlib.Path(__file__).with_name("orders.jsonl")
    path.write_text("".join(line + "\n" for line in shop.lines), encoding="utf-8")
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in shop.tables.items())
    print(f"{path}: {len(shop.lines)} events; at their end: {counts}")


if __name__ == "__main__":
    main()
