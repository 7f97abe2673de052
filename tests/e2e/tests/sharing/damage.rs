//! Pieces that change on a node's disk: found before they are handed on, and got anew.

use anyhow::{Result, ensure};
use e2e::inside::{BOUND, Content, Hub, Node, Settings, blob_target, check_store};
use std::time::Duration;
use support::origin::FaultyOrigin;
use support::poll;
use types::PieceIndex;

const SIZE: usize = 6_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_gets_a_damaged_piece_anew_while_the_rest_is_downloaded() -> Result<()> {
    let origin = FaultyOrigin::builder().rate(2 << 20).start().await?;
    let content = Content::random(1, SIZE);
    origin.add_blob("app", content.bytes.clone());
    let mut settings = Settings::of(&[&origin]);
    settings.linger = Duration::from_millis(50);
    let hub = Hub::start(&settings).await?;
    let node = Node::join(&hub, &settings).await?;
    let target = blob_target(&origin, "app", &content.digest);
    let head = node.get_range(&target, "bytes=0-1999999").await?;
    ensure!(head.is_right(&content.bytes[..2_000_000]), "{}", head.summary());

    let dir = node.stop().await?;
    content.damage(dir.path(), PieceIndex(1))?;
    let node = Node::join_again(&hub, &settings, dir).await?;
    origin.forget_requests();
    let tail = async {
        let reply = node.get_range(&target, "bytes=2000000-").await?;
        ensure!(reply.is_right(&content.bytes[2_000_000..]), "{}", reply.summary());
        Ok(())
    };
    let head = async {
        poll::until_async("the rest is being read", BOUND, || async {
            Ok((origin.blob_gets(&content.digest) > 0).then_some(()))
        })
        .await?;
        let reply = node.get_range(&target, "bytes=0-1999999").await?;
        ensure!(reply.is_right(&content.bytes[..2_000_000]), "{}", reply.summary());
        Ok(())
    };
    tokio::time::timeout(BOUND, async { tokio::try_join!(tail, head) }).await??;
    check_store(node.stop().await?.path(), &[content]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_gets_a_damaged_piece_from_the_origin_and_the_others_from_its_holder() -> Result<()> {
    let origin = FaultyOrigin::start().await?;
    let content = Content::random(2, SIZE);
    origin.add_blob("app", content.bytes.clone());
    let mut settings = Settings::of(&[&origin]);
    settings.linger = Duration::from_millis(50);
    let hub = Hub::start(&settings).await?;
    let target = blob_target(&origin, "app", &content.digest);
    let a = Node::join(&hub, &settings).await?;
    let reply = a.get(&target).await?;
    ensure!(reply.is_right(&content.bytes), "{}", reply.summary());

    let dir = a.stop().await?;
    content.damage(dir.path(), PieceIndex(3))?;
    let a = Node::join_again(&hub, &settings, dir).await?;
    let b = Node::join(&hub, &settings).await?;
    hub.until_hosts(2).await?;
    let reply = b.get(&target).await?;
    ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    let expected = SIZE + content.piece(PieceIndex(3)).len();
    ensure!(origin.blob_bytes(&content.digest) == expected as u64, "{}", origin.blob_bytes(&content.digest));
    // Who lost it gets it back from its peer.
    let reply = a.get(&target).await?;
    ensure!(reply.is_right(&content.bytes), "{}", reply.summary());
    ensure!(origin.blob_bytes(&content.digest) == expected as u64, "{}", origin.blob_bytes(&content.digest));
    for node in [a, b] {
        check_store(node.stop().await?.path(), std::slice::from_ref(&content)).await?;
    }
    Ok(())
}
