package token

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/keyring"
)

// TestCacheIsBounded verifies that the cache is bounded, and that expired entries make room first.
func TestCacheIsBounded(t *testing.T) {
	const size = 10 * shards
	cache := newCache(size)
	now := time.Now()
	add := func(i int, life time.Duration) {
		d := sha256.Sum256(fmt.Append(nil, i))
		cache.put(&d, &entry{until: now.Add(life)}, now)
	}
	for i := range 20 * size {
		add(i, time.Hour)
	}
	if n := cache.len(); n > size || n < size*9/10 {
		t.Errorf("%d of %d", n, size)
	}
	cache = newCache(size)
	for i := range 9 * shards { // not quite full, so that no shard is, but for a few
		add(i, -time.Second)
	}
	dead := cache.len()
	for i := range 20 * size {
		add(1e6+i, time.Hour)
	}
	for i := range cache.shards {
		for _, e := range cache.shards[i].m {
			if e.until.Before(now) {
				t.Fatalf("one of %d that have ended is still there", dead)
			}
		}
	}
}

// TestCacheForgetsTheFirstToEnd verifies that a full cache without expired entries removes the entry that expires
// first.
func TestCacheForgetsTheFirstToEnd(t *testing.T) {
	now := time.Now()
	s := &shard{m: map[digest]*entry{}}
	for i := range 8 {
		s.m[digest{byte(i)}] = &entry{until: now.Add(time.Duration(8-i) * time.Minute)}
	}
	s.makeRoom(now)
	if _, there := s.m[digest{7}]; there || len(s.m) != 7 {
		t.Errorf("%d are left, the first to end among them: %v", len(s.m), there)
	}
}

// TestOnlyGoodTokensAreRemembered verifies that the cache holds only valid tokens, so that a client without one cannot
// fill it.
func TestOnlyGoodTokensAreRemembered(t *testing.T) {
	rig := newService(t, func(o *Options) { o.CacheSize = shards })
	raw := rig.mint(t)
	for i := range 1000 {
		_, _ = rig.Check(fmt.Sprint(raw[:len(raw)-4], 1000+i))
		_, _ = rig.Check(fmt.Sprint(i))
	}
	if n := rig.cache.len(); n != 0 {
		t.Errorf("%d bad tokens are remembered", n)
	}
	for range 10 * shards {
		rig.wantReason(t, rig.mint(t), "")
	}
	if n := rig.cache.len(); n > shards {
		t.Errorf("%d are remembered, and may be %d", n, shards)
	}
}

// TestChecksAtOnce verifies that concurrent checks, revocations and new rings never accept a revoked session.
func TestChecksAtOnce(t *testing.T) {
	db := newFakeStore()
	rig := newService(t, func(o *Options) { o.CacheSize, o.Revocations = 2*shards, db.revocations(t, acme) })
	db.poll(t, rig)
	gone := rig.mint(t, func(c *Claims) { c.SessionID = session2 })
	rig.o.Revocations.Revoke(acme, "", session2)
	var tokens []string
	for range 4 * shards {
		tokens = append(tokens, rig.mint(t))
	}
	rings := []*keyring.Ring{rig.ring.Load(), {Version: keyring.Version, Keys: rig.ring.Load().Keys, Secret: "another"}}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 500 {
				if _, err := rig.Check(tokens[(i*7+w)%len(tokens)]); err != nil {
					t.Error(err)
				}
				if _, err := rig.Check(gone); reason(err) != reasonRevoked {
					t.Error(err)
				}
				switch {
				case i%50 == w:
					rig.o.Revocations.Revoke(acme, "", fmt.Sprint(w, "/", i))
				case i%50 == w+10:
					rig.ring.Store(rings[i%2])
				case i%100 == w+20:
					_ = rig.JWKS()
					rig.wantReason(t, rig.mint(t), "")
				}
			}
		})
	}
	wg.Wait()
	if n := rig.cache.len(); n > 2*shards {
		t.Errorf("%d are remembered", n)
	}
}
