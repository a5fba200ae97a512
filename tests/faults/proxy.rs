//! A TCP proxy before Postgres, which cuts connections and takes its time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Cut before the server gets the next COMMIT.
pub const CUT_BEFORE: u32 = 1;
/// Cut when the server has answered the next COMMIT, before the client hears of it.
pub const CUT_AFTER: u32 = 2;

#[derive(Default)]
struct Plan {
    /// What happens to the next COMMIT: nothing, or one of the above.
    cut: AtomicU32,
    done: AtomicU32,
    /// Milliseconds by which each chunk is late, both ways.
    delay: AtomicU64,
}

pub struct Proxy {
    pub port: u16,
    plan: Arc<Plan>,
}

impl Proxy {
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, server, plan) =
            (listener.local_addr().unwrap().port(), server.to_owned(), Arc::new(Plan::default()));
        let shared = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                serve(client, server, &shared);
            }
        });
        Self { port, plan }
    }

    /// Cuts the connection at the next COMMIT, whenever that is; 0 takes it back.
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

    pub fn delay(&self, delay: Duration) {
        self.plan.delay.store(delay.as_millis() as u64, Ordering::SeqCst);
    }
}

fn serve(client: TcpStream, server: TcpStream, plan: &Arc<Plan>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (up, down) = (Arc::clone(plan), Arc::clone(plan));
    let cutting = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&cutting);
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        copy(from, to, &up, |chunk| {
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
        copy(server, client, &down.clone(), |_| {
            let answered = cutting.load(Ordering::SeqCst) == CUT_AFTER;
            if answered {
                down.done.fetch_add(1, Ordering::SeqCst);
            }
            !answered
        });
    });
}

/// Copies until an end or until `passes` says no to a chunk; then cuts both ways.
fn copy(mut from: TcpStream, mut to: TcpStream, plan: &Plan, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let delay = plan.delay.load(Ordering::SeqCst);
        if delay > 0 {
            thread::sleep(Duration::from_millis(delay));
        }
        if !passes(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
