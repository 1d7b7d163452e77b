package token

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caly-dev/caly/internal/keyring"
)

// entry is a token whose signature and claims were found good.
type entry struct {
	claims Claims
	// ring that it was verified under. Under another ring it is verified again.
	ring *keyring.Ring
	// until is when the token or its key ends.
	until time.Time
	// epoch of the revocations that it was judged by; they begin at 1.
	epoch atomic.Uint64
}

// digest of a token: the token itself is not kept.
type digest = [sha256.Size]byte

const shards = 64

// cache remembers tokens by their digests. Only good ones come in, so nobody without one can push another's out.
type cache struct {
	perShard int
	shards   [shards]shard
}

type shard struct {
	mu sync.RWMutex
	m  map[digest]*entry
	_  [96]byte // no two shards' locks in one line of a CPU's cache
}

func newCache(size int) *cache {
	c := &cache{perShard: max(1, size/shards)}
	for i := range c.shards {
		c.shards[i].m = map[digest]*entry{}
	}
	return c
}

// A digest's bytes are as good as random: the first says where it belongs.
func (c *cache) shard(d *digest) *shard { return &c.shards[d[0]%shards] }

func (c *cache) get(d *digest) *entry {
	shard := c.shard(d)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	return shard.m[*d]
}

func (c *cache) put(d *digest, e *entry, now time.Time) {
	shard := c.shard(d)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, known := shard.m[*d]; !known && len(shard.m) >= c.perShard {
		shard.makeRoom(now)
	}
	shard.m[*d] = e
}

func (c *cache) drop(d *digest) {
	shard := c.shard(d)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	delete(shard.m, *d)
}

// makeRoom looks at a few entries, in the random order of the map, and removes those that have ended, or else the one that ends first.
func (s *shard) makeRoom(now time.Time) {
	const few = 16
	var first digest
	var ends time.Time
	n := 0
	removed := false
	for d, e := range s.m {
		if !now.Before(e.until) {
			delete(s.m, d)
			removed = true
		} else if ends.IsZero() || e.until.Before(ends) {
			first = d
			ends = e.until
		}
		if n++; n == few {
			break
		}
	}
	if !removed {
		delete(s.m, first)
	}
}

// len counts what is remembered.
func (c *cache) len() int {
	n := 0
	for i := range c.shards {
		shard := &c.shards[i]
		shard.mu.RLock()
		n += len(shard.m)
		shard.mu.RUnlock()
	}
	return n
}
