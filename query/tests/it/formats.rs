//! Each format of an answer, also of one without rows.

use moonshine_query::OutputFormat;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{Shop, answer};

const SQL: &str = "select order_id, note, price, at from lines order by order_id";

async fn shop() -> Shop {
    let shop = Shop::new(3);
    let mut transaction = shop.database.begin();
    for order_id in [1, 5] {
        transaction
            .upsert(&shop.lines, Shop::line(order_id, 1, order_id))
            .unwrap();
    }
    transaction.commit().unwrap();
    shop.export().await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn text_formats_say_what_the_rows_hold() {
    let shop = shop().await;
    let session = shop.session().await;
    let text =
        async |sql: &str, format| String::from_utf8(answer(&session, sql, format).await).unwrap();
    assert_eq!(
        text(SQL, OutputFormat::Csv).await,
        "order_id,note,price,at\n1,note 1,0.01,1970-01-01T00:00:01Z\n5,,0.05,1970-01-01T00:00:05Z\n"
    );
    let json = text(SQL, OutputFormat::Json).await;
    let rows: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows[1]["order_id"], 5);
    assert!(rows[1]["note"].is_null());
    let table = text(SQL, OutputFormat::Table).await;
    assert!(
        table.contains("| 5        | NULL") && table.ends_with("2 rows\n"),
        "{table}"
    );

    let none = "select order_id from lines where order_id > 100";
    assert_eq!(text(none, OutputFormat::Csv).await, "order_id\n");
    assert_eq!(text(none, OutputFormat::Json).await, "");
    assert!(text(none, OutputFormat::Table).await.ends_with("0 rows\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_reads_back() {
    let shop = shop().await;
    let session = shop.session().await;
    for (sql, row_count) in [
        (SQL, 2),
        ("select order_id from lines where order_id > 100", 0),
    ] {
        let bytes = bytes::Bytes::from(answer(&session, sql, OutputFormat::Parquet).await);
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .unwrap()
            .build()
            .unwrap();
        assert_eq!(
            batches
                .map(|batch| batch.unwrap().num_rows())
                .sum::<usize>(),
            row_count
        );
    }
}
