use sha2::{Digest as _, Sha256};

/// A pseudo-random generator: the SHA-256 of a tag, the seed and the block number.
pub(super) struct Random {
    seed: u64,
    blocks: u64,
    block: [u8; 32],
    /// Number of bytes of `block` used.
    used: usize,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            blocks: 0,
            block: [0; 32],
            used: 32,
        }
    }

    /// Fills `buf` with the next bytes. The sequence does not depend on the sizes of the buffers.
    pub(super) fn fill(&mut self, mut buf: &mut [u8]) {
        while !buf.is_empty() {
            if self.used == self.block.len() {
                self.block = self.next_block();
                self.used = 0;
            }
            let fresh = &self.block[self.used..];
            let taken = fresh.len().min(buf.len());
            let (now, later) = buf.split_at_mut(taken);
            now.copy_from_slice(&fresh[..taken]);
            self.used += taken;
            buf = later;
        }
    }

    fn next_block(&mut self) -> [u8; 32] {
        let hasher = Sha256::new()
            .chain_update(b"lockstep random 1")
            .chain_update(self.seed.to_le_bytes())
            .chain_update(self.blocks.to_le_bytes());
        self.blocks += 1;
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_no_difference_and_seeds_do() {
        let mut whole = [0; 100];
        Random::new(7).fill(&mut whole);
        let mut pieces = [0; 100];
        let mut random = Random::new(7);
        for piece in pieces.chunks_mut(7) {
            random.fill(piece);
        }
        assert_eq!(whole, pieces);
        Random::new(8).fill(&mut pieces);
        assert_ne!(whole, pieces);
    }
}
