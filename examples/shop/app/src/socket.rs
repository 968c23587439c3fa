//! `/api/ws`: a WebSocket that sends back what it is sent, and greets with the release. When the
//! process stops it closes with 1001, going away.

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::Failure;
use crate::stop::{self, Stop};
use crate::web::{self, Answer};

pub(crate) fn accept(
    mut request: Request<Incoming>,
    release: String,
    stop: Stop,
) -> Result<Answer, Failure> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return Ok(web::text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n"));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let ended = match upgrade.await {
            Ok(stream) => talk(stream, release, stop).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            eprintln!("shop: WebSocket: {error}");
        }
    });
    let mut answer = web::text(StatusCode::SWITCHING_PROTOCOLS, "");
    answer.headers_mut().clear();
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(answer)
}

async fn talk(stream: Upgraded, release: String, stop: Stop) -> Result<(), Failure> {
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
    socket.send(Message::text(format!("hello from {release}"))).await?;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    socket.send(message).await?;
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            },
            () = stop::asked(stop.clone()) => {
                let frame = CloseFrame { code: CloseCode::Away, reason: "stopping".into() };
                socket.close(Some(frame)).await?;
                return Ok(());
            }
        }
    }
}
