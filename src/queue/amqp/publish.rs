//! Confirmed publishing.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};

use super::link::{Link, reply_code};
use crate::queue::QueueError;

impl Link {
    /// Publishes one persistent message, and returns when the broker has it on the disks of a majority.
    ///
    /// One message at a time per channel: a returned message says nothing of which one it was, and the library gives it to
    /// the confirmation that comes next. A channel whose confirmation did not come is thrown away for the same reason, and so
    /// is one whose message was refused: a channel that meets a quorum queue while its leader is gone keeps asking the dead
    /// node, and refuses all that follows long after another leads (RabbitMQ 3.10, `rabbit_fifo_client:enqueue/3`; a stale
    /// leader is the subject of rabbitmq-server#9241). A new channel looks the leader up anew.
    ///
    /// # Errors
    /// [`QueueError::Unroutable`]: `mandatory`, and no queue takes it, or the exchange does not exist.
    /// [`QueueError::Unavailable`]: no connection, no confirmation in time, or the broker could not store it.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        mandatory: bool,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), QueueError> {
        let unroutable = |why: &str| QueueError::Unroutable { queue: self.name(), what: format!("`{exchange}` → `{key}`: {why}") };
        let short = |word: &str| ShortString::try_new(word).map_err(|_| unroutable("longer than 255 bytes"));
        let (exchange_name, routing_key) = (short(exchange)?, short(key)?);
        let live = self.live().await?;
        if live.connection.status().blocked() {
            return Err(self.unavailable("the broker takes no messages: it is short of memory or disk", None));
        }
        let limit = Duration::from_millis(self.config.publish_timeout_ms);
        let attempt = async {
            let pooled = live.idle().pop();
            let channel = match pooled {
                Some(channel) if channel.status().connected() => channel,
                _ => {
                    let channel = live.connection.create_channel().await?;
                    channel.confirm_select(ConfirmSelectOptions::default()).await?;
                    channel
                }
            };
            let options = BasicPublishOptions { mandatory, immediate: false };
            let properties = properties.with_delivery_mode(2);
            let confirmation = channel.basic_publish(exchange_name, routing_key, options, body, properties).await?.await?;
            Ok((confirmation, channel))
        };
        let ended: Result<lapin::Result<_>, _> = tokio::time::timeout(limit, attempt).await;
        let (confirmation, channel) = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(e)) if reply_code(&e) == Some(404) => return Err(unroutable(&e.to_string())),
            Ok(Err(e)) => return Err(self.failed("publish", e)),
            Err(_) => return Err(self.unavailable(format!("no confirmation within {} ms", limit.as_millis()), None)),
        };
        if matches!(confirmation, Confirmation::Ack(_)) {
            live.idle().push(channel);
        }
        match confirmation {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => Err(unroutable(returned.reply_text.as_str())),
            Confirmation::Nack(None) => Err(self.unavailable("the broker did not store the message (queue full, or no majority)", None)),
            Confirmation::NotRequested => Err(self.unavailable("the broker confirms nothing", None)),
        }
    }
}
