//! A bucket behind a network that cuts connections and a server that is busy or full: exports go on, and lose nothing.
//! Defends the invariants *once* and *same*.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use moonshine_export::{ExportError, Exporter, FormatVersion, IcebergConfig};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::servers::{S3Kind, S3Server};
use crate::support::{Random, World, notes, write_notes};

const CALM: u8 = 0;
/// Some connections are cut, some are slow, to some the server is busy.
const ROUGH: u8 = 1;
/// The bucket takes nothing more.
const FULL: u8 = 2;

const BUSY: &str = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const NO_SPACE: &str = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 73\r\n\r\n\
    <Error><Code>QuotaExceeded</Code><Message>no space left</Message></Error>";

/// Stands between a client and a server.
struct Network {
    weather: Arc<AtomicU8>,
    /// Connections end when this changes.
    changes: watch::Sender<()>,
    uri: String,
}

impl Network {
    async fn before(server: &str) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let weather = Arc::new(AtomicU8::new(CALM));
        let (changes, changed) = watch::channel(());
        let random = Arc::new(Mutex::new(Random(77)));
        let (kept, target) = (weather.clone(), server.replace("http://", ""));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (weather, dice) = (kept.load(Ordering::SeqCst), random.lock().below(6));
                let (target, mut changed) = (target.clone(), changed.clone());
                changed.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = changed.changed() => {}
                        () = serve(client, &target, weather, dice) => {}
                    }
                });
            }
        });
        Network {
            weather,
            changes,
            uri,
        }
    }

    fn set(&self, weather: u8) {
        self.weather.store(weather, Ordering::SeqCst);
        self.changes.send_replace(());
    }
}

async fn serve(mut client: TcpStream, target: &str, weather: u8, dice: u64) {
    match (weather, dice) {
        (FULL, _) => answer(client, NO_SPACE).await,
        (ROUGH, 0) => answer(client, BUSY).await,
        (ROUGH, 1) => drop(client),
        (ROUGH, 2) => {
            // Cut within a request or an answer.
            let limit = Duration::from_millis(5);
            let _ = tokio::time::timeout(limit, tunnel(&mut client, target)).await;
        }
        (ROUGH, 3) => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            tunnel(&mut client, target).await;
        }
        _ => tunnel(&mut client, target).await,
    }
}

async fn tunnel(client: &mut TcpStream, target: &str) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = tokio::io::copy_bidirectional(client, &mut server).await;
    }
}

async fn answer(mut client: TcpStream, text: &str) {
    let mut request = [0; 1 << 16];
    let _ = client.read(&mut request).await;
    let _ = client.write_all(text.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_outlast_a_bad_network_and_a_full_bucket() {
    let world = World::new(FormatVersion::V3);
    let Some(server) = S3Server::start(S3Kind::Moto, &world.path("s3")) else {
        return;
    };
    let network = Network::before(&server.uri()).await;
    let mut properties: BTreeMap<String, String> = server.properties();
    properties.insert("s3.endpoint".into(), network.uri.clone());
    let config: IcebergConfig = serde_json::from_value(json!({
        "warehouse_path": format!("{}/w", server.bucket()), "catalog_uri": world.path("catalog.db"),
        "store": properties, "target_file_size_mb": 1,
    }))
    .unwrap();
    let database = world.database();
    let table = notes(&database);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    let catalog = moonshine_export::catalog::open(&config, false)
        .await
        .unwrap();
    let mut random = Random(5);
    let mut outcomes = BTreeMap::new();
    for round in 0..16 {
        let weather = [CALM, ROUGH, ROUGH, FULL][round % 4];
        network.set(weather);
        let rows = (0..40).map(|_| (random.below(200) as i64, format!("{round}")));
        write_notes(&database, &table, rows, &[round as i64]);
        let outcome = match exporter.tick(&database.snapshot()).await {
            Ok(_) => "ok",
            Err(ExportError::Unavailable { reason, .. }) if weather == FULL => {
                assert!(reason.contains("QuotaExceeded"), "{reason}");
                "full"
            }
            Err(ExportError::Unavailable { .. }) if weather == ROUGH => "rough",
            Err(error) => panic!("{error}"),
        };
        *outcomes.entry((weather, outcome)).or_insert(0) += 1;
        if weather == CALM {
            world.check_same_in(&database, catalog.clone()).await;
        }
    }
    assert_eq!(outcomes.get(&(CALM, "ok")), Some(&4), "{outcomes:?}");
    assert_eq!(outcomes.get(&(FULL, "full")), Some(&4), "{outcomes:?}");
    assert!(outcomes.contains_key(&(ROUGH, "ok")), "{outcomes:?}");
    network.set(CALM);
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same_in(&database, catalog).await;
}
