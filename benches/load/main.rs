//! The server under load, killed once in the middle: `cargo bench --bench load`.
//!
//! 50 owners upload 20 photos each at once, and 1,000 sockets are open, of which 50 never read
//! but request all events again and again. One sender sends a byte a second. When a third of the
//! work is done, the server is killed with SIGKILL and restarted. At the end every acknowledged
//! upload must have completed, every socket that reads must have received its end, and those that
//! do not read must have been closed. Then the machine is quiet, and 1,000 sockets of one owner
//! receive the events of single photos. The bench fails if a figure exceeds its limit below.
//!
//! Figures hold for server and clients on the same machine. The client is one thread.

mod measures;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    error::Error,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use actix_rt::task::JoinHandle;
use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use mediamill::engine::files;
use reqwest::{
    Client,
    multipart::{Form, Part},
};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use self::measures::{MOST_ANSWER_MS, MOST_DELAY_MS, MOST_FAN_OUT_MS, MOST_MIB, Payload, Told, report};

const OWNERS: usize = 50;
const PHOTOS: usize = 20;
const SOCKETS: usize = 1000;
const DEAF: usize = 50;
const PATIENCE: Duration = Duration::from_secs(1800);

/// Time that the server waits for a peer that does not read, in ms; connections are cut after
/// twice that time.
const SEND_TIMEOUT_MS: u32 = 10_000;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let _ = rustls_graviola::default_provider().install_default();
    rlimit::increase_nofile_limit(1 << 16).expect("enough files may be open");
    actix_rt::System::new().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let load = Rc::new(Load::new(folder.path().to_owned()));
        let mut server = load.start();
        load.clone().run(&mut server).await.expect("everything ends well");
    });
}

/// The process of the server.
struct Server {
    process: Child,
    /// The most memory that any of its processes held, in KiB.
    most_kib: u64,
}

impl Server {
    fn look(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        let kib = line.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0);
        self.most_kib = self.most_kib.max(kib);
    }

    fn kill(&mut self) {
        self.look();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Load {
    folder: PathBuf,
    address: String,
    client: Client,
    photo: Vec<u8>,
    /// Acknowledged batch and uploads of each owner.
    acknowledged: RefCell<HashMap<usize, (String, Vec<String>)>>,
    /// The photos whose end each reading socket has received, with its owner.
    told: RefCell<HashMap<usize, (usize, HashSet<String>)>>,
    /// Times from a change to its arrival at a socket that keeps up, in ms.
    delays: RefCell<Vec<f64>>,
    /// Answer times of the API, in ms.
    answers: RefCell<Vec<f64>>,
    /// Number of times that the server closed a socket that does not read.
    let_go: Cell<usize>,
    down: Cell<bool>,
    /// Whether the machine is quiet: then the delays of sockets that have resumed count, too.
    quiet: Cell<bool>,
}

impl Load {
    fn new(folder: PathBuf) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
        let keys = (0..OWNERS).map(|owner| {
            let hash = files::hash(token(owner).as_bytes());
            format!("{{ owner = \"owner-{owner}\", sha256 = \"{hash}\" }}")
        });
        let keys = keys.collect::<Vec<_>>().join(", ");
        fs::write(
            folder.join("config.toml"),
            format!("[server]\nsend_timeout_ms = {SEND_TIMEOUT_MS}\n[auth]\nkeys = [{keys}]\n"),
        )
        .expect("written");
        Self {
            folder,
            address: free.to_string(),
            client: Client::new(),
            photo: include_bytes!("../../actors/tests/fixtures/cat.jpg").to_vec(),
            acknowledged: RefCell::default(),
            told: RefCell::default(),
            delays: RefCell::default(),
            answers: RefCell::default(),
            let_go: Cell::new(0),
            down: Cell::new(false),
            quiet: Cell::new(false),
        }
    }

    fn start(&self) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mediamill"));
        command.arg("serve").arg("--config").arg(self.folder.join("config.toml"));
        command.arg("--data-dir").arg(self.folder.join("data")).args(["--listen", &self.address]);
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let process =
            command.env("RUST_LOG", "warn").stderr(log).stdout(Stdio::null()).spawn().expect("it runs");
        Server { process, most_kib: 0 }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn there(&self) {
        while self.client.get(self.url("/health")).send().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn run(self: Rc<Self>, server: &mut Server) -> Fallible<()> {
        self.there().await;
        let listeners: Vec<_> = (0..SOCKETS)
            .map(|number| {
                let load = Rc::clone(&self);
                let deaf = number < DEAF;
                let owner = number % OWNERS;
                actix_rt::spawn(async move {
                    if deaf { load.deaf(owner).await } else { load.listen(number, owner).await }
                })
            })
            .collect();
        while self.subscribers(server).await < SOCKETS {
            sleep(Duration::from_millis(100)).await;
        }
        println!("{SOCKETS} sockets are open, {DEAF} of them never read");
        let started = Instant::now();
        let probe = actix_rt::spawn(Rc::clone(&self).probe());
        let uploads = join_all((0..OWNERS).map(|owner| self.upload(owner)));
        let kill = self.kill_in_the_middle(server);
        let (slow, uploaded) = tokio::join!(kill, timeout(PATIENCE, uploads));
        uploaded?;
        println!(
            "all {} photos are acknowledged after {:.1} s",
            OWNERS * PHOTOS,
            started.elapsed().as_secs_f64()
        );
        timeout(PATIENCE, self.all_ended(server)).await??;
        let took = started.elapsed().as_secs_f64();
        probe.abort();
        println!(
            "all batches ended right after {took:.1} s: {:.1} photos a second",
            (OWNERS * PHOTOS) as f64 / took
        );
        let all = (SOCKETS - DEAF) * PHOTOS;
        let wait = async {
            while self.ends_told() < all {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), wait)
            .await
            .map_err(|_| format!("{} of {all} ends were received", self.ends_told()))?;
        println!("every reading socket received every end of its owner's photos: {all} in all");
        report("the API answered in", &mut self.answers.borrow_mut(), MOST_ANSWER_MS)?;
        report(
            "a change reached a socket, while all was busy, after",
            &mut self.delays.borrow_mut(),
            f64::INFINITY,
        )?;
        let cut = slow.await?;
        println!("the sender of a byte a second was cut off after {:.0} s", cut?.as_secs_f64());
        self.photos_of_the_first().await?;
        report(
            &format!(
                "with {SOCKETS} sockets open, a change reached those of its owner, while all was quiet, after"
            ),
            &mut self.delays.borrow_mut(),
            MOST_DELAY_MS,
        )?;
        let all_let_go = async {
            while self.let_go.get() < DEAF {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(120), all_let_go)
            .await
            .map_err(|_| format!("of {DEAF} sockets that do not read, {} were let go", self.let_go.get()))?;
        println!("sockets that do not read were let go {} times", self.let_go.get());
        for listener in listeners {
            listener.abort();
        }
        self.fan_out().await?;
        server.look();
        let mib = server.most_kib as f64 / 1024.0;
        println!("memory of the server at its highest: {mib:.0} MiB");
        if mib > MOST_MIB { Err(format!("it held more than {MOST_MIB} MiB").into()) } else { Ok(()) }
    }

    fn ends_told(&self) -> usize {
        let acknowledged = self.acknowledged.borrow();
        let told = self.told.borrow();
        let of = |(owner, ended): &(usize, HashSet<String>)| {
            acknowledged.get(owner).map_or(0, |(_, ids)| ids.iter().filter(|id| ended.contains(*id)).count())
        };
        told.values().map(of).sum()
    }

    async fn subscribers(&self, server: &mut Server) -> usize {
        server.look();
        // The established sockets of the server: its port is the local one.
        let tcp = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let port = self.address.rsplit(':').next().and_then(|it| it.parse::<u16>().ok()).unwrap_or(0);
        let ours = format!(":{port:04X} ");
        tcp.lines()
            .filter(|line| {
                line.split_whitespace().nth(1).is_some_and(|it| format!("{it} ").ends_with(&ours))
                    && line.contains(" 01 ")
            })
            .count()
    }

    /// Uploads 20 photos, and repeats that until it is acknowledged.
    async fn upload(&self, owner: usize) {
        loop {
            let form = (0..PHOTOS).fold(Form::new(), |form, number| {
                let mut photo = self.photo.clone();
                // Any bytes may follow the end of a JPEG.
                photo.extend_from_slice(format!("{owner} {number}").as_bytes());
                form.part("files", Part::bytes(photo).file_name(format!("{number}.jpg")))
            });
            let sent =
                self.client.post(self.url("/api/v1/uploads/bulk")).bearer_auth(token(owner)).multipart(form);
            if let Ok(answer) = sent.send().await
                && answer.status() == 201
                && let Ok(body) = answer.json::<Value>().await
            {
                let ids = body["upload_ids"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|it| it.as_str().map(str::to_owned));
                let batch = body["batch_id"].as_str().unwrap_or_default().to_owned();
                self.acknowledged.borrow_mut().insert(owner, (batch, ids.collect()));
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Listens as one owner until aborted, reconnects after the death of the server, and records
    /// the ends of photos.
    async fn listen(&self, number: usize, owner: usize) {
        self.told.borrow_mut().insert(number, (owner, HashSet::new()));
        let (mut known, mut first) = (0, true);
        loop {
            let resume = (!first).then_some(known);
            if let Ok(mut socket) = self.socket(owner, resume).await {
                first = false;
                let mut resumed = resume.is_none();
                while let Some(Ok(message)) = socket.next().await {
                    let Message::Text(text) = message else { continue };
                    let Ok(message) = serde_json::from_str::<Told<'_>>(&text) else { continue };
                    let Some(seq) = message.seq else { continue };
                    if message.action == "resumed" {
                        assert_eq!(message.snapshot, Some(false), "every event is kept");
                        resumed = true;
                        continue;
                    }
                    // Live events before the replay are sent again within it.
                    if !resumed {
                        continue;
                    }
                    assert!(seq >= known, "events come in their order");
                    if let Some(delay) = message.delay().filter(|_| resume.is_none() || self.quiet.get()) {
                        self.delays.borrow_mut().push(delay);
                    }
                    known = known.max(seq);
                    if let ("file_progress", Some(Payload { upload_id: Some(id), status: "completed" })) =
                        (message.action, message.payload)
                        && let Some((_, ended)) = self.told.borrow_mut().get_mut(&number)
                    {
                        ended.insert(id.to_owned());
                    }
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Requests all events again and again and reads nothing until it is closed, and then starts
    /// again.
    async fn deaf(&self, owner: usize) {
        loop {
            if let Ok(mut socket) = self.socket(owner, None).await {
                let again = Message::text(r#"{"action":"resume","after_seq":0}"#);
                // When the server stops reading, too, this waits until the connection is cut.
                while socket.send(again.clone()).await.is_ok() {
                    sleep(Duration::from_millis(100)).await;
                }
                if !self.down.get() {
                    self.let_go.set(self.let_go.get() + 1);
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn socket(
        &self,
        owner: usize,
        resume: Option<u64>,
    ) -> Fallible<WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>> {
        let url = format!("ws://{}/api/ws/uploads", self.address);
        let (mut socket, _) = timeout(Duration::from_secs(30), connect_async(url)).await??;
        socket.send(Message::text(format!(r#"{{"type":"auth","token":"{}"}}"#, token(owner)))).await?;
        if let Some(seq) = resume {
            socket.send(Message::text(format!(r#"{{"action":"resume","after_seq":{seq}}}"#))).await?;
        }
        Ok(socket)
    }

    /// Calls the API twenty times a second.
    async fn probe(self: Rc<Self>) {
        for turn in 0.. {
            sleep(Duration::from_millis(50)).await;
            let path = ["/api/v1/uploads/batches", "/api/v1/status"][turn % 2];
            let asked = Instant::now();
            let answer = self.client.get(self.url(path)).bearer_auth(token(turn % OWNERS)).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => {
                    self.answers.borrow_mut().push(asked.elapsed().as_secs_f64() * 1000.0)
                }
                Ok(answer) => println!("the API answered {}", answer.status()),
                Err(error) if !self.down.get() => println!("the API did not answer: {error}"),
                Err(_) => {}
            }
        }
    }

    /// The number of completed photos of acknowledged batches.
    async fn done(&self) -> Fallible<usize> {
        let batches: Vec<_> =
            self.acknowledged.borrow().iter().map(|(owner, (batch, _))| (*owner, batch.clone())).collect();
        let mut done = 0;
        for (owner, batch) in batches {
            let url = self.url(&format!("/api/v1/uploads/batches/{batch}"));
            let batch: Value = self.client.get(url).bearer_auth(token(owner)).send().await?.json().await?;
            if batch["failed_uploads"] != 0 || batch["total_uploads"] != PHOTOS {
                return Err(format!("a batch has a wrong state: {batch}").into());
            }
            done += batch["successful_uploads"].as_u64().unwrap_or(0) as usize;
        }
        Ok(done)
    }

    /// Answers with a sender of a byte a second that started after the restart.
    async fn kill_in_the_middle(&self, server: &mut Server) -> JoinHandle<std::io::Result<Duration>> {
        while self.done().await.unwrap_or(0) < OWNERS * PHOTOS / 3 {
            server.look();
            sleep(Duration::from_millis(500)).await;
        }
        self.down.set(true);
        server.kill();
        let (started, most_kib) = (Instant::now(), server.most_kib);
        *server = self.start();
        server.most_kib = most_kib;
        self.there().await;
        self.down.set(false);
        println!("killed with SIGKILL; it answers again after {:.2} s", started.elapsed().as_secs_f64());
        actix_rt::spawn(slow_sender(self.address.clone()))
    }

    async fn all_ended(&self, server: &mut Server) -> Fallible<()> {
        while self.done().await? < OWNERS * PHOTOS {
            server.look();
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Uploads one photo after the other as the first owner, on an otherwise quiet machine.
    async fn photos_of_the_first(&self) -> Fallible<()> {
        sleep(Duration::from_secs(2)).await;
        self.quiet.set(true);
        self.delays.borrow_mut().clear();
        for number in 0..20 {
            let photo =
                [self.photo.as_slice(), format!("again {number} {:?}", Instant::now()).as_bytes()].concat();
            let form = Form::new().part("files", Part::bytes(photo).file_name("one.jpg"));
            self.client
                .post(self.url("/api/v1/uploads/bulk"))
                .bearer_auth(token(0))
                .multipart(form)
                .send()
                .await?;
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Measures the delays while all sockets belong to one owner.
    async fn fan_out(self: &Rc<Self>) -> Fallible<()> {
        let listeners: Vec<_> = (0..SOCKETS)
            .map(|number| {
                let load = Rc::clone(self);
                actix_rt::spawn(async move { load.listen(number, 0).await })
            })
            .collect();
        sleep(Duration::from_secs(8)).await;
        self.photos_of_the_first().await?;
        let mut delays = self.delays.borrow_mut();
        if delays.len() < SOCKETS * 20 {
            return Err(format!("only {} messages reached {SOCKETS} sockets", delays.len()).into());
        }
        let what = format!("a change of one owner reached all of its {SOCKETS} sockets after");
        report(&what, &mut delays, MOST_FAN_OUT_MS)?;
        for listener in listeners {
            listener.abort();
        }
        Ok(())
    }
}

fn token(owner: usize) -> String {
    format!("key-of-{owner}")
}

/// Sends a byte a second until it is cut off.
async fn slow_sender(address: String) -> Result<Duration, std::io::Error> {
    let job = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        let head = format!(
            "POST /api/v1/uploads/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000000\r\n\r\n--x\r\n",
            token(1)
        );
        stream.write_all(head.as_bytes())?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let started = Instant::now();
        let mut answer = [0; 1];
        loop {
            match stream.read(&mut answer) {
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Ok(_) | Err(_) => return Ok(started.elapsed()),
            }
            if stream.write_all(b"x").is_err() {
                return Ok(started.elapsed());
            }
        }
    });
    job.await.map_err(std::io::Error::other)?
}
