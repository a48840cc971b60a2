//! The hub's host: real WebSocket frames over the simulated network. The rules are in `books`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use turmoil::net::{TcpListener, TcpStream};

use crate::shared::{Order, World, lock};

pub const PORT: u16 = 9000;

pub async fn serve(world: World) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let timers = world.clone();
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(50)).await;
            lock(&timers).tick();
        }
    });
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, world.clone()));
    }
}

async fn converse(stream: TcpStream, world: World) {
    // As the shipped hub does: before the peer hears that the connection stands.
    let conn = {
        let mut shared = lock(&world);
        shared.connections += 1;
        shared.connections
    };
    let upgraded = timeout(Duration::from_secs(5), tokio_tungstenite::accept_async(stream)).await;
    let Ok(Ok(mut socket)) = upgraded else { return };
    let (orders, mut todo) = mpsc::unbounded_channel();
    lock(&world).opened(conn, orders);
    loop {
        let slow = {
            let shared = lock(&world);
            shared.slow_until > shared.now
        };
        tokio::select! {
            biased;
            order = todo.recv() => {
                let (message, receipt) = match order {
                    Some(Order::Say(text, receipt)) => {
                        lock(&world).said(conn, &text);
                        (Message::text(text), receipt)
                    }
                    Some(Order::Close(code, reason)) => {
                        let frame = CloseFrame { code: code.into(), reason: reason.into() };
                        let close = socket.send(Message::Close(Some(frame)));
                        // A peer that is cut off is simply dropped.
                        let _ = timeout(Duration::from_millis(500), close).await;
                        let farewell = async { while let Some(Ok(_)) = socket.next().await {} };
                        let _ = timeout(Duration::from_millis(500), farewell).await;
                        break;
                    }
                    Some(Order::Drop) | None => break,
                };
                if !matches!(timeout(Duration::from_secs(5), socket.send(message)).await, Ok(Ok(()))) {
                    break;
                }
                lock(&world).written(receipt);
            }
            () = sleep(Duration::from_millis(50)), if slow => {}
            message = timeout(Duration::from_secs(5), socket.next()), if !slow => match message {
                Ok(Some(Ok(Message::Text(text)))) => lock(&world).frame_received(conn, text.as_str()),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) | Err(_) => break,
            },
        }
    }
    lock(&world).closed(conn);
}
