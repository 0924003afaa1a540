//! Moonshine as an embedded key-value store: `cargo run --example embed_keyspace -p moonshine-engine`.

use moonshine_engine::{Database, Durability, Error, Isolation, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    // A database to keep would measure its device once: `Options::default()`.
    let database = Database::open(folder.path(), Options::unmeasured())?;

    // Each write here is durable when it returns.
    let users = database.keyspace("users")?;
    users.insert("user:1", "Ada")?;
    users.insert("user:2", "Alan")?;
    assert_eq!(users.get("user:1")?.as_deref(), Some(&b"Ada"[..]));

    // Faster, for what may be lost in a power failure: durable with the next sync.
    let visits = database
        .keyspace("visits")?
        .with_durability(Durability::Buffered);
    for day in 0..100_u32 {
        visits.insert(day.to_be_bytes(), format!("{} visitors", day * 3))?;
    }
    database.sync()?;

    // Several writes that take effect together.
    let mut batch = users.batch();
    batch.insert("user:3", "Grace")?;
    batch.remove("user:2")?;
    batch.commit()?;

    // Read and write in one: begun again whenever another came in between.
    let leases = database.keyspace("leases")?;
    let made = users.transact(Isolation::Serializable, |transaction| {
        let names = transaction.prefix("user:")?;
        let count = names.collect::<Result<Vec<_>, Error>>()?.len();
        transaction.insert("count", count.to_string())?;
        Ok::<_, Error>(count)
    })?;
    assert_eq!(made, 2);
    assert!(leases.compare_and_swap("owner", None, Some(b"me"))?.is_ok());
    let visited = leases.fetch_update("visited", |old| {
        Some([old.unwrap_or_default(), b"x"].concat())
    })?;
    assert!(visited.is_none());
    // A whole prefix at the cost of one write, and a key that must be new.
    users.remove_prefix("cou")?;
    assert!(matches!(
        users.insert_new("user:1", "Eve"),
        Err(Error::Exists { .. })
    ));

    // Ordered, from either end; a snapshot stays as it was while writes go on.
    let before = database.snapshot();
    users.insert("user:4", "Barbara")?;
    let names: Vec<String> = users
        .prefix("user:")
        .map(|pair| pair.map(|(_, name)| String::from_utf8_lossy(&name).into_owned()))
        .collect::<Result<_, Error>>()?;
    assert_eq!(names, ["Ada", "Grace", "Barbara"]);
    assert_eq!(users.range_at::<&str>(&before, ..)?.count(), 2);
    let last_week = visits.range(93_u32.to_be_bytes()..).rev();
    for pair in last_week {
        let (_, text) = pair?;
        println!("{}", String::from_utf8_lossy(&text));
    }
    Ok(())
}
