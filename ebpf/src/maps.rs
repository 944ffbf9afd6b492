//! The maps that the programs share, and the field offsets that user space fills in before it loads them.

use core::{arch::asm, ptr};

use aya_ebpf::{
    Global,
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    btf_maps::{Array, HashMap},
    cty::c_void,
    helpers::{bpf_get_socket_cookie, bpf_sk_storage_get},
    macros::btf_map,
};
use lbstatd_ebpf_abi::{
    Address, Control, Fin, Found, Listener, MAX_LISTENERS, MAX_OUTGOING, MAX_OWNERS, MAX_SERVERS, Offsets, Server,
    Socket,
};

use crate::atomic::add;

/// Storage in listeners and the connections they accept. `BPF_F_CLONE`: what a listener carries, the kernel copies into
/// each of those.
#[btf_map]
static SOCKETS: SocketStorage = SocketStorage::new();

/// What is known of outgoing connections, by the address of their `struct sock`, in place of storage in the socket: for
/// that the kernel takes some 500 ns of each connection, for an entry here 100. An entry is made when the connection is
/// begun, and gone when it is over.
#[btf_map]
static OUTBOUND: HashMap<u64, Socket, MAX_OUTGOING, NO_PREALLOC> = HashMap::new();

/// What connections had received when our side sent the first FIN: each has its place, and the next that is given the same
/// place takes it over.
///
/// Not in [`SOCKETS`]: the process that ends a connection rarely runs on the processor that the network keeps busy with it,
/// and memory that both use goes back and forth between them, at some 300 ns a connection. This is written by one side
/// only, and almost never read.
#[btf_map]
static FINS: Array<Fin, { lbstatd_ebpf_abi::FINS }> = Array::new();

/// Counters by listener cookie. Rows are large and few: each is allocated when it is needed.
#[btf_map]
static LISTENERS: HashMap<u64, Listener, MAX_LISTENERS, NO_PREALLOC> = HashMap::new();

/// Counters of outgoing connections by destination.
#[btf_map]
static SERVERS: HashMap<Address, Server, MAX_SERVERS, NO_PREALLOC> = HashMap::new();

/// What new rows begin with: too large for a program's stack. Nobody ever writes them.
#[btf_map]
static NEW_LISTENER: Array<Listener, 1> = Array::new();
#[btf_map]
static NEW_SERVER: Array<Server, 1> = Array::new();

/// Listeners that the sample met unknown, by address, for the adoption of their older connections.
#[btf_map]
static ADOPTERS: HashMap<Address, u64, MAX_LISTENERS> = HashMap::new();

/// One entry: the number of the sample, and what user space should know of it.
#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();

/// Processes (thread groups) whose listeners and connections user space asks for.
#[btf_map]
static OWNERS: HashMap<u32, u64, MAX_OWNERS> = HashMap::new();

/// Processes that user space looks for: their number in their own process namespace, and the number that the peer of
/// their socket has in user space's.
#[btf_map]
static WANTED: HashMap<u32, u32, MAX_OWNERS> = HashMap::new();

/// What was found of them, by thread group.
#[btf_map]
static FOUND: HashMap<u32, Found, MAX_OWNERS> = HashMap::new();

/// More than a program may print at a time, to end an iteration with.
pub(crate) type Much = [u8; 1 << 16];
#[btf_map]
static MUCH: Array<Much, 1> = Array::new();

#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> = Global::new(ZERO_OFFSETS);

/// Reads one offset. Each is loaded by itself and in its own width, so that the verifier, which knows the frozen
/// contents, sees a constant.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: `Global` is transparent over the offsets; the field lies within them and is always initialized.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::offsets()).$field) }
    };
}
pub(crate) use offset;

#[inline(always)]
pub(crate) fn offsets() -> *const Offsets {
    (&raw const OFFSETS).cast()
}

/// What is known of a socket, if anything is.
#[inline(always)]
pub(crate) fn socket(sk: *const c_void) -> Option<&'static mut Socket> {
    // SAFETY: `sk` is a socket pointer that the verifier has typed. Storage lives as long as the program's view of the
    // socket; an entry's memory can become another connection's when this one is over. Every program that changes either
    // runs under that socket's lock, but for one that is prepared for another's entry (`count::settle`).
    unsafe {
        match storage(sk, ptr::null_mut(), 0).as_mut() {
            Some(socket) => Some(socket),
            None => OUTBOUND.get_ptr_mut(sk as u64).and_then(|socket| socket.as_mut()),
        }
    }
}

/// Begins anew with a socket that connects. False when there is no room for it.
#[inline(always)]
pub(crate) fn set_outgoing(sk: *const c_void, fresh: &Socket) -> bool {
    // SAFETY: as in `socket`.
    if let Some(socket) = unsafe { storage(sk, ptr::null_mut(), 0).as_mut() } {
        // It has been a listener, or one's connection.
        *socket = *fresh;
        return true;
    }
    if OUTBOUND.insert(sk as u64, fresh, 0).is_ok() {
        return true;
    }
    if let Some(control) = control() {
        // SAFETY: the entry of an array map, valid for the program's life; changed atomically.
        unsafe { add(&raw mut (*control).refused_outgoing, 1) };
    }
    false
}

#[inline(always)]
pub(crate) fn remove_outgoing(sk: *const c_void) {
    // One that has storage has no entry.
    let _ = OUTBOUND.remove(sk as u64);
}

/// The storage of a socket, made from `initial` if there is none. `None` when the kernel has no memory for it.
#[inline(always)]
pub(crate) fn socket_or_insert(sk: *const c_void, initial: &mut Socket) -> Option<&'static mut Socket> {
    // SAFETY: as in `socket`; the kernel copies `initial`.
    unsafe { storage(sk, ptr::from_mut(initial), u64::from(BPF_SK_STORAGE_GET_F_CREATE)).as_mut() }
}

#[inline(always)]
unsafe fn storage(sk: *const c_void, initial: *mut Socket, flags: u64) -> *mut Socket {
    // SAFETY: the map pointer is replaced by the loader, the rest is the caller's promise.
    unsafe { bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), sk.cast_mut(), initial.cast(), flags).cast() }
}

pub(crate) fn much() -> Option<*const Much> {
    MUCH.get_ptr(0)
}

/// A connection's place for what it had received when our side sent the first FIN.
#[inline(always)]
pub(crate) fn fin(sk: *const c_void) -> Option<*mut Fin> {
    FINS.get_ptr_mut(hash(sk) >> 16)
}

/// A number that depends on a socket's address. The verifier takes no arithmetic with pointers, but for a copy of their
/// lower half.
#[inline(always)]
pub(crate) fn hash(sk: *const c_void) -> u32 {
    let low: u32;
    // SAFETY: moves a register.
    unsafe { asm!("{low} = {sk}", low = out(wreg) low, sk = in(wreg) sk as u32) };
    low.wrapping_mul(0x9e37_79b9)
}

/// The kernel's own number for a socket, never used twice.
#[inline(always)]
pub(crate) fn cookie(sk: *const c_void) -> u64 {
    // SAFETY: the helper takes any socket pointer that the verifier has typed.
    unsafe { bpf_get_socket_cookie(sk.cast_mut()) }
}

/// The row of a listener. A raw pointer: programs on other CPUs write the same row.
#[inline(always)]
pub(crate) fn listener(cookie: u64) -> Option<*mut Listener> {
    LISTENERS.get_ptr_mut(cookie)
}

/// The row of a listener, made if there is none. `None` when the table is full.
#[inline(always)]
pub(crate) fn listener_or_insert(cookie: u64) -> Option<*mut Listener> {
    if let Some(row) = LISTENERS.get_ptr_mut(cookie) {
        return Some(row);
    }
    // A failure shows in the look-up that follows; another program may have been faster.
    let _ = LISTENERS.insert(cookie, NEW_LISTENER.get(0)?, u64::from(BPF_NOEXIST));
    LISTENERS.get_ptr_mut(cookie)
}

/// The row of a destination.
#[inline(always)]
pub(crate) fn server(address: &Address) -> Option<*mut Server> {
    SERVERS.get_ptr_mut(address)
}

/// The row of a destination, made if there is none. `None` when the table is full.
#[inline(always)]
pub(crate) fn server_or_insert(address: &Address) -> Option<*mut Server> {
    if let Some(row) = SERVERS.get_ptr_mut(address) {
        return Some(row);
    }
    let _ = SERVERS.insert(address, NEW_SERVER.get(0)?, u64::from(BPF_NOEXIST));
    SERVERS.get_ptr_mut(address)
}

#[inline(always)]
pub(crate) fn adopter(address: &Address) -> Option<u64> {
    // SAFETY: user space removes entries only while no sample runs, and only samples call this.
    unsafe { ADOPTERS.get(address).copied() }
}

#[inline(always)]
pub(crate) fn add_adopter(address: &Address, cookie: u64) {
    // A full table means connections that stay unadopted; the table of listeners, of the same size, reports it.
    let _ = ADOPTERS.insert(address, cookie, 0);
}

#[inline(always)]
pub(crate) fn control() -> Option<*mut Control> {
    CONTROL.get_ptr_mut(0)
}

#[inline(always)]
pub(crate) fn is_owner(tgid: u32) -> bool {
    OWNERS.get_ptr(tgid).is_some()
}

/// The sample that last saw an owner alive.
#[inline(always)]
pub(crate) fn owner_seen(tgid: u32) -> Option<*mut u64> {
    OWNERS.get_ptr_mut(tgid)
}

/// The peer of a process that is looked for; 0 if it is not known.
#[inline(always)]
pub(crate) fn wanted(pid: u32) -> Option<u32> {
    // SAFETY: user space changes the map only while no sample runs, and only samples call this.
    unsafe { WANTED.get(pid).copied() }
}

#[inline(always)]
pub(crate) fn add_found(tgid: u32, found: &Found) {
    // A full table means that more processes bear the numbers than anybody runs; the rest is not looked at.
    let _ = FOUND.insert(tgid, found, 0);
}

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

// SAFETY: integers only, for which all bits zero is a value.
const ZERO_OFFSETS: Offsets = unsafe { core::mem::zeroed() };

/// A BTF map definition like aya-ebpf's `SkStorage`, which offers no `BPF_F_CLONE`. The kernel programs see only its
/// address; the numbers are in the types of the pointers, where the loader reads them.
#[repr(C)]
struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Socket,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: its pointers are never followed.
unsafe impl Sync for SocketStorage {}

impl SocketStorage {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }
}
