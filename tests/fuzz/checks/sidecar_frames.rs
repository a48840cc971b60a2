//! What an agent says, into the hub's checks and its scheduler. One line is one frame from the agent that `identify` last
//! named, or one of the words `submit`, `command`, `force`, `written`, `gone` and `later`.
//!
//! Asserted: what is let in is written and read as the same frame; what the scheduler says is a frame that a sidecar reads;
//! an agent holds at most one task; no submitted task is lost.

use agentcom::hub::scheduler::agents::ConnId;
use agentcom::hub::scheduler::policy::Policy;
use agentcom::hub::scheduler::restart::RestartRequest;
use agentcom::hub::scheduler::task::{Priority, Status, Submission};
use agentcom::hub::scheduler::{Outgoing, Scheduler};
use agentcom::protocol::schema::{Incoming, read_frame};
use agentcom::protocol::{FrameError, HubFrame, JsonFields, JsonText, SidecarFrame};

/// Checks what becomes of one input.
pub fn check(text: &str) {
    let mut hub = Hub::new();
    for line in text.lines().take(200) {
        hub.now += 1;
        match read_frame(line).0 {
            Incoming::Frame(frame) => {
                let again = frame.to_text();
                assert_same(&frame, &again);
                hub.hears(frame);
            }
            Incoming::Invalid { message_type: _, errors } => {
                for error in errors {
                    assert!(error["field"].is_string() && error["error"].is_string(), "{error}");
                }
            }
            Incoming::Ignored => {}
            Incoming::NotJson => hub.word(line),
        }
        hub.check();
    }
}

/// `protocol_version` rides on every frame, so a frame that keeps what it does not know has it more when read again.
fn assert_same(frame: &SidecarFrame, text: &str) {
    let read = SidecarFrame::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(frame.kind(), read.kind());
    assert_eq!(read.to_text(), SidecarFrame::parse(&read.to_text()).expect("read before").to_text(), "{text}");
    let plain = |frame: &SidecarFrame| {
        let mut value = serde_json::to_value(frame).expect("a frame is plain JSON");
        value.as_object_mut().expect("an object").remove("protocol_version");
        value
    };
    assert_eq!(plain(frame), plain(&read), "{text}");
}

fn submission() -> Submission {
    Submission {
        description: "d".into(),
        metadata: JsonText::empty_object(),
        priority: Priority::Normal,
        max_retries: 2,
        needed_capabilities: Vec::new(),
        extra: JsonFields::default(),
        submitted_by: "ops".into(),
        submitter_since: None,
    }
}

struct Hub {
    scheduler: Scheduler,
    now: u64,
    conn: ConnId,
    next: u64,
    agent: String,
    submitted: Vec<String>,
    unread: Vec<String>,
}

impl Hub {
    fn new() -> Self {
        Self {
            scheduler: Scheduler::load(Vec::new(), Vec::new(), Policy::default(), 0),
            now: 0,
            conn: 0,
            next: 0,
            agent: String::new(),
            submitted: Vec::new(),
            unread: Vec::new(),
        }
    }

    fn hears(&mut self, frame: SidecarFrame) {
        match frame {
            SidecarFrame::Identify(identify) => {
                self.conn += 1;
                self.agent = identify.agent_id.clone();
                self.scheduler.identified(self.conn, &identify, "10.0.0.1:1", self.now);
            }
            other => self.scheduler.frame_received(self.conn, other, self.now),
        }
    }

    fn word(&mut self, word: &str) {
        self.next += 1;
        match word {
            "submit" => {
                let id = format!("t{}", self.next);
                self.scheduler.submit(id.clone(), submission(), self.now);
                self.submitted.push(id);
            }
            "command" | "force" => {
                let force = word == "force";
                let request = RestartRequest { reason: "r".into(), deadline_ms: None, force, by: "ops".into() };
                self.scheduler.command_restart(format!("c{}", self.next), &self.agent, request, self.now);
            }
            "written" => {
                for id in std::mem::take(&mut self.unread) {
                    self.scheduler.delivered(&id, self.now);
                }
            }
            "gone" => self.scheduler.disconnected(self.conn, self.now),
            "later" => {
                if let Some(at) = self.scheduler.deadline() {
                    self.now = self.now.max(at);
                    self.scheduler.tick(self.now);
                }
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let mut changed = self.scheduler.take_changes().tasks.len();
        for say in self.scheduler.take_outgoing() {
            let Outgoing::Frame { conn: _, text, receipt } = say else { continue };
            self.unread.extend(receipt);
            match HubFrame::parse(&text) {
                // `status_updated` is for original sidecars, and has no meaning to ours.
                Ok(_) | Err(FrameError::UnknownType(_)) => {}
                Err(error) => panic!("{error}: {text}"),
            }
            changed += 1;
        }
        if changed == 0 {
            return;
        }
        let mut holders = std::collections::HashSet::new();
        for id in &self.submitted {
            let task = self.scheduler.tasks().get(id).unwrap_or_else(|| panic!("{id} is lost"));
            if let Status::Assigned { agent_id, .. } = &task.status {
                assert!(holders.insert(agent_id), "{agent_id} holds two tasks");
            }
        }
    }
}
