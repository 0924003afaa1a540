//! What a metastore answers, and what is made of that.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, TableMetadata,
    TableMetadataBuilder, Type, UnboundPartitionSpec,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::thrift::{answer, received};
use super::*;

const FROM: &str = "file:///w/1.metadata.json";
const TO: &str = "file:///w/2.metadata.json";
/// A field that no version of Hive has.
const UNKNOWN_FIELD: i16 = 99;

/// What a method is answered: its result, or nothing and the end of the connection.
type Answers = HashMap<&'static str, Option<Struct>>;

/// A metastore of fixed answers, which keeps what it is asked.
struct Metastore {
    tables: HiveTables,
    asked: Arc<Mutex<Vec<(String, Struct)>>>,
}

impl Metastore {
    async fn new(answers: impl IntoIterator<Item = (&'static str, Option<Struct>)>) -> Self {
        let version = result(Value::from("4.0.1"));
        let mut all: Answers = [("getVersion", Some(version))].into();
        all.extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let (method, arguments) = loop {
                    if let Ok(call) = received(&bytes) {
                        break call;
                    }
                    assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
                };
                noted.lock().push((method.clone(), arguments));
                let known = all.get(method.as_str());
                if let Some(result) = known.unwrap_or_else(|| panic!("{method}")) {
                    stream.write_all(&answer(&method, result)).await.unwrap();
                }
            }
        });
        let address = Url::parse(&format!("thrift://127.0.0.1:{port}")).unwrap();
        Metastore {
            tables: HiveTables::open(&address).unwrap(),
            asked,
        }
    }

    /// Has a table that is at [`FROM`], and answers a change of it so.
    async fn with_table(altered: Option<Struct>) -> Self {
        let found = result(Struct::default().with(1, iceberg_table()).into());
        Self::new([
            ("get_table_req", Some(found)),
            ("alter_table_with_environment_context", altered),
        ])
        .await
    }

    async fn swap(&self) -> Result<(), NotTaken> {
        let metadata = metadata();
        let to = Located {
            location: TO,
            metadata: &metadata,
        };
        self.tables.swap(&ident(), FROM, to).await
    }

    fn asked(&self, method: &str) -> Option<Struct> {
        let asked = self.asked.lock();
        let found = asked.iter().find(|(name, _)| name == method);
        found.map(|(_, arguments)| arguments.clone())
    }
}

fn ident() -> TableIdent {
    TableIdent::from_strs(["shop", "notes"]).unwrap()
}

fn result(value: Value) -> Struct {
    Struct::default().with(0, value)
}

fn thrown(field: i16, message: &str) -> Struct {
    Struct::default().with(field, Struct::default().with(1, message))
}

fn iceberg_table() -> Struct {
    let parameters = Value::text_map([
        (TABLE_TYPE, "iceberg"),
        (METADATA_LOCATION, FROM),
        ("owner", "ann"),
    ]);
    new_table(name_of(&ident()).unwrap())
        .with(field::TABLE_PARAMETERS, parameters)
        .with(UNKNOWN_FIELD, "kept")
}

fn metadata() -> TableMetadata {
    let id = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([Arc::new(id)]).build();
    TableMetadataBuilder::new(
        schema.unwrap(),
        UnboundPartitionSpec::default(),
        SortOrder::unsorted_order(),
        "file:///w".to_owned(),
        FormatVersion::V2,
        HashMap::new(),
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

#[tokio::test]
async fn a_change_is_conditional_and_keeps_what_is_not_known() {
    let metastore = Metastore::with_table(Some(Struct::default())).await;
    metastore.swap().await.unwrap();
    let asked = metastore.asked("alter_table_with_environment_context");
    let asked = asked.unwrap();
    assert_eq!(asked.get(1), Some(&Value::from("shop")));
    let table = asked.get(3).and_then(Value::fields).unwrap();
    assert_eq!(table.get(UNKNOWN_FIELD), Some(&Value::from("kept")));
    let said: HashMap<&str, &str> = parameters(table).collect();
    for (key, value) in [
        (METADATA_LOCATION, TO),
        (PREVIOUS_METADATA_LOCATION, FROM),
        (TABLE_TYPE, ICEBERG),
        ("owner", "ann"),
    ] {
        assert_eq!(said.get(key), Some(&value), "{key}");
    }
    let condition = asked.get(4).and_then(Value::fields).unwrap();
    let condition: HashMap<&str, &str> = condition.get(1).unwrap().entries().collect();
    assert_eq!(condition["expected_parameter_key"], METADATA_LOCATION);
    assert_eq!(condition["expected_parameter_value"], FROM);
}

/// Invariant 4, "once": what an answer leaves open is not taken for a no.
#[tokio::test]
async fn an_answer_says_what_became_of_a_commit() {
    let modified =
        "The table has been modified. The parameter value for key 'metadata_location' is different";
    for (altered, expected) in [
        (Some(thrown(2, modified)), "Conflict"),
        (Some(thrown(1, "incompatible types")), "Refused"),
        (Some(thrown(2, "a listener failed")), "Unknown"),
        (None, "Unknown"),
    ] {
        let metastore = Metastore::with_table(altered).await;
        let not_taken = metastore.swap().await.unwrap_err();
        let reason = format!("{:?}", not_taken.reason);
        assert!(reason.starts_with(expected), "{expected}: {reason}");
        assert!(not_taken.may_be_there, "{expected}");
    }
}

#[tokio::test]
async fn what_is_of_no_use_is_not_sent() {
    let metadata = metadata();
    let to = Located {
        location: TO,
        metadata: &metadata,
    };
    let metastore = Metastore::with_table(None).await;
    let (tables, ident) = (&metastore.tables, ident());
    let moved = tables.swap(&ident, "file:///w/0.metadata.json", to).await;
    let moved = moved.unwrap_err();
    assert!(matches!(moved.reason, Reason::Conflict) && !moved.may_be_there);
    let missing = Metastore::new([("get_table_req", Some(thrown(2, "no such table")))]).await;
    let gone = missing.swap().await.unwrap_err();
    assert!(matches!(
        gone.reason,
        Reason::Refused(ExportError::Foreign { .. })
    ));
    for old in ["3.1.3", "3.0", ""] {
        let version = result(Value::from(old));
        let metastore = Metastore::new([("getVersion", Some(version))]).await;
        let refused = metastore.swap().await.unwrap_err();
        let Reason::Refused(ExportError::Config(reason)) = &refused.reason else {
            panic!("{refused:?}");
        };
        assert!(reason.contains(&format!("'{old}'")), "{reason}");
        assert!(
            metastore
                .asked("alter_table_with_environment_context")
                .is_none()
        );
    }
    let nowhere = HiveTables::open(&Url::parse("thrift://127.0.0.1:1").unwrap()).unwrap();
    let unsent = nowhere.swap(&ident, FROM, to).await.unwrap_err();
    assert!(matches!(unsent.reason, Reason::Busy(_)) && !unsent.may_be_there);
    let capitals = TableIdent::from_strs(["shop", "Notes"]).unwrap();
    assert!(matches!(
        nowhere.find(&capitals).await,
        Err(ExportError::Config(_))
    ));
}

#[tokio::test]
async fn what_is_found_in_hive() {
    let metastore = Metastore::with_table(None).await;
    assert_eq!(
        metastore.tables.find(&ident()).await.unwrap().as_deref(),
        Some(FROM)
    );
    let plain = new_table(name_of(&ident()).unwrap());
    let found = result(Struct::default().with(1, plain).into());
    let metastore = Metastore::new([("get_table_req", Some(found))]).await;
    let error = metastore.tables.find(&ident()).await.unwrap_err();
    assert!(matches!(error, ExportError::Foreign { .. }), "{error}");
    let broken = Metastore::new([("get_table_req", Some(thrown(1, "no database")))]).await;
    let error = broken.tables.find(&ident()).await.unwrap_err();
    assert!(error.to_string().contains("no database"), "{error}");
    let none = Metastore::new([("drop_table_with_environment_context", Some(thrown(1, "")))]).await;
    assert!(!none.tables.remove(&ident()).await.unwrap());
}
