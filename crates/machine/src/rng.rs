//! Randomness for machines: seeded once, then reproducible. Only a driver asks the operating system, for the seed.

use std::convert::Infallible;
use std::fmt;
use std::hash::Hasher;

use rand::rngs::{SysError, SysRng};
use rand::{Rng, SeedableRng, TryCryptoRng, TryRng};
use rand_chacha::ChaCha20Rng;
use siphasher::sip::SipHasher13;

/// A ChaCha20 generator. One is made from a seed (a driver's from the system's randomness, a test's from a constant) and every
/// machine gets a child of its own, so that what one machine draws does not shift what another sees.
///
/// ```
/// use rand::RngExt;
/// use tercet_machine::MachineRng;
/// let mut root = MachineRng::from_seed([7; 32]);
/// let mut table = root.child("table");
/// let again = MachineRng::from_seed([7; 32]).child("table").random::<u64>();
/// assert_eq!(table.random::<u64>(), again);
/// ```
#[derive(Clone)]
pub struct MachineRng(ChaCha20Rng);

impl MachineRng {
    /// A generator whose whole output follows from `seed`.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// A generator seeded by the operating system. For drivers: a machine that called it could not be replayed.
    ///
    /// # Errors
    /// What the operating system says when it has no randomness to give.
    pub fn from_system() -> Result<Self, SysError> {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    /// A generator of its own for the machine called `label`. It depends on this generator's state and on the label.
    #[must_use]
    pub fn child(&mut self, label: &str) -> Self {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        let mut hasher = SipHasher13::new();
        hasher.write(label.as_bytes());
        let mut child = ChaCha20Rng::from_seed(seed);
        // ChaCha's streams of one seed are independent of each other: the label chooses one.
        child.set_stream(hasher.finish());
        Self(child)
    }
}

impl TryRng for MachineRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for MachineRng {}

impl fmt::Debug for MachineRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state foretells nonces and keys.
        f.write_str("MachineRng(..)")
    }
}
