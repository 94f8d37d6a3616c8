//! Images and files in messages.

use tutor_core::file::{FileContent, FileSource, StoredFile};
use tutor_core::message::{Content, Part};
use tutor_core::turn::InputMessage;
use tutor_core::{ChatRequest, ErrorKind, Limits, Messages, OwnerId, Result, Tutor, async_trait};

use super::{build, say, scripts};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";

#[derive(Debug)]
struct Shelf;

#[async_trait]
impl FileSource for Shelf {
    async fn file(&self, owner: &OwnerId, id: &str) -> Result<Option<StoredFile>> {
        let content = match (owner.as_str(), id) {
            ("local", "notes") => FileContent::Text("light is food".into()),
            ("local", "picture") => FileContent::Image(PNG.to_vec()),
            ("local", "paper") => FileContent::NameOnly,
            _ => return Ok(None),
        };
        Ok(Some(StoredFile::new(Some(format!("{id}.x")), content)))
    }
}

fn file(id: &str) -> Part {
    Part::File {
        file_id: id.into(),
        name: None,
        media_type: None,
    }
}

fn asking(parts: Vec<Part>) -> ChatRequest {
    let question = Part::Text {
        text: "what is this?".into(),
    };
    ChatRequest::new(Content::Parts([vec![question], parts].concat()))
}

#[tokio::test]
async fn the_model_gets_the_content_of_files_and_the_history_keeps_their_ids() {
    let provider = scripts(vec![say("ok")]);
    let tutor = build(Tutor::builder().files(Shelf), &provider).await;
    let parts = vec![
        file("notes"),
        file("picture"),
        file("paper"),
        Part::image(PNG).unwrap(),
    ];
    let reply = tutor.chat(asking(parts.clone())).await.unwrap();
    let next = ChatRequest::new("and now?").with_session(reply.session_id.clone());
    tutor.chat(next).await.unwrap();
    for request in provider.requests() {
        let Content::Parts(sent) = &request.messages[0].content else {
            panic!("parts were sent");
        };
        assert!(sent[1].as_text().unwrap().contains("light is food"));
        assert_eq!(sent[2], Part::image(PNG).unwrap());
        assert_eq!((&sent[3], &sent[4]), (&parts[2], &parts[3]));
    }
    let page = tutor
        .messages(&reply.session_id, Messages::default())
        .await
        .unwrap();
    let Content::Parts(stored) = &page.items[0].content else {
        panic!("parts were stored");
    };
    assert_eq!(stored[1..], parts);
}

#[tokio::test]
async fn what_is_not_there_or_not_what_it_is_called_is_refused_before_anything_is_stored() {
    let provider = scripts(vec![say("ok")]);
    let mut limits = Limits::default();
    limits.max_attachments = 2;
    let tutor = build(Tutor::builder().files(Shelf).limits(limits), &provider).await;
    let wrong = Part::Image {
        url: "data:image/gif;base64,iVBORw0KGgo=".into(),
        media_type: None,
    };
    for (parts, kind) in [
        (vec![file("nobody")], ErrorKind::InvalidInput),
        (vec![wrong], ErrorKind::InvalidInput),
        (vec![Part::image(PNG).unwrap(); 3], ErrorKind::TooLarge),
    ] {
        let refused = tutor.chat(asking(parts)).await.unwrap_err();
        assert_eq!(refused.kind(), kind);
    }
    let stranger = tutor.for_owner("stranger".parse().unwrap());
    let refused = stranger
        .chat(asking(vec![file("notes")]))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let mut spread = asking(vec![Part::image(PNG).unwrap(); 2]);
    spread.messages.insert(
        0,
        InputMessage::user(Content::Parts(vec![Part::image(PNG).unwrap()])),
    );
    assert_eq!(
        tutor.chat(spread).await.unwrap_err().kind(),
        ErrorKind::TooLarge
    );
    assert!(tutor.sessions(1, None).await.unwrap().items.is_empty());
    assert!(provider.requests().is_empty());
}

#[tokio::test]
async fn without_a_source_files_are_sent_as_they_are() {
    let provider = scripts(vec![say("ok")]);
    let tutor = build(Tutor::builder(), &provider).await;
    tutor.chat(asking(vec![file("somewhere")])).await.unwrap();
    let Content::Parts(sent) = &provider.requests()[0].messages[0].content else {
        panic!("parts were sent");
    };
    assert_eq!(sent[1], file("somewhere"));
}
