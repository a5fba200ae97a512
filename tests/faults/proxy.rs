//! A TCP proxy in front of Postgres. It can cut connections, delay or swallow what passes, and switch to
//! another server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Cut before the server gets the next COMMIT.
pub const CUT_BEFORE: u32 = 1;
/// Cut when the server has answered the next COMMIT, before the answer reaches the client.
pub const CUT_AFTER: u32 = 2;

#[derive(Default)]
struct Plan {
    /// The server's address.
    server: Mutex<String>,
    /// What happens to the next COMMIT: nothing, or one of the above.
    cut: AtomicU32,
    done: AtomicU32,
    /// Milliseconds by which each chunk is delayed, in both directions.
    delay: AtomicU64,
    /// How many connections there have been.
    accepted: AtomicU64,
    /// Connections up to this number pass nothing any more.
    mute: AtomicU64,
}

pub struct Proxy {
    pub port: u16,
    plan: Arc<Plan>,
}

impl Proxy {
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = Arc::new(Plan { server: Mutex::new(server.to_owned()), ..Plan::default() });
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for (client, number) in listener.incoming().map_while(Result::ok).zip(1..) {
                let server = shared.server.lock().unwrap().clone();
                let Ok(server) = TcpStream::connect(server) else { continue };
                serve(client, server, &shared, number);
            }
        });
        Self { port, plan }
    }

    /// Will cut the connection at the next COMMIT; 0 cancels that.
    pub fn plan_cut(&self, how: u32) {
        self.plan.cut.store(how, Ordering::SeqCst);
    }

    /// Cuts the connection at the next COMMIT; waits until that happened.
    pub fn cut(&self, how: u32) {
        let before = self.plan.done.load(Ordering::SeqCst);
        self.plan_cut(how);
        crate::world::wait_for("a COMMIT to cut", || {
            (self.plan.done.load(Ordering::SeqCst) > before).then_some(())
        });
    }

    /// From here on new connections go to another server.
    pub fn switch(&self, server: &str) {
        server.clone_into(&mut self.plan.server.lock().unwrap());
    }

    /// From here on every connection is accepted, and everything that arrives on it, in either direction, is
    /// swallowed.
    pub fn swallow(&self) {
        self.plan.mute.store(u64::MAX, Ordering::SeqCst);
    }

    /// From here on new connections work again. Those that were mute stay mute, as behind a firewall that has
    /// forgotten them.
    pub fn pass(&self) {
        self.plan.mute.store(self.plan.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub fn delay(&self, delay: Duration) {
        self.plan.delay.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
}

fn serve(client: TcpStream, server: TcpStream, plan: &Arc<Plan>, number: u64) {
    plan.accepted.store(number, Ordering::SeqCst);
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (up, down) = (Arc::clone(plan), Arc::clone(plan));
    let cutting = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&cutting);
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        copy(from, to, &up, number, |chunk| {
            if !chunk.windows(7).any(|window| window == b"COMMIT\0") {
                return true;
            }
            let how = up.cut.swap(0, Ordering::SeqCst);
            seen.store(how, Ordering::SeqCst);
            if how == CUT_BEFORE {
                up.done.fetch_add(1, Ordering::SeqCst);
            }
            how != CUT_BEFORE
        });
    });
    thread::spawn(move || {
        copy(server, client, &down.clone(), number, |_| {
            let answered = cutting.load(Ordering::SeqCst) == CUT_AFTER;
            if answered {
                down.done.fetch_add(1, Ordering::SeqCst);
            }
            !answered
        });
    });
}

/// Copies until one side ends or `passes` refuses a chunk. Then cuts both directions.
fn copy(
    mut from: TcpStream,
    mut to: TcpStream,
    plan: &Plan,
    number: u64,
    mut passes: impl FnMut(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let delay = plan.delay.load(Ordering::SeqCst);
        if delay > 0 {
            thread::sleep(Duration::from_millis(delay));
        }
        if number <= plan.mute.load(Ordering::SeqCst) {
            continue;
        }
        if !passes(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
