package token

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// benchService is as a pod has it: revocations known, some in force.
func benchService(b *testing.B) (*service, string) {
	b.Helper()
	r := newService(b, func(o *Options) {
		o.Now = time.Now
		o.Revocations = NewRevocations(RevocationOptions{Tenants: func() []string { return []string{acme} }})
	})
	set := newTenantSet()
	set.add(store.Revocation{SessionID: session2, At: time.Now()}, time.Now())
	r.o.Revocations.install(map[string]*tenantSet{acme: set}, time.Now())
	raw := r.mint(b, func(c *Claims) { c.IssuedAt, c.ExpiresAt = time.Now(), time.Now().Add(time.Hour/2) })
	if _, err := r.Check(raw); err != nil {
		b.Fatal(err)
	}
	return r, raw
}

func BenchmarkWarm(b *testing.B) {
	rig, raw := benchService(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rig.Check(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmParallel measures parallel checks of a remembered token. A lock that all checks wait for would show.
func BenchmarkWarmParallel(b *testing.B) {
	rig, raw := benchService(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := rig.Check(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCold(b *testing.B) {
	rig, raw := benchService(b)
	digest := sha256.Sum256([]byte(raw))
	b.ReportAllocs()
	for b.Loop() {
		rig.cache.drop(&digest)
		if _, err := rig.Check(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMint(b *testing.B) {
	rig, _ := benchService(b)
	claims := rig.claims()
	for b.Loop() {
		if _, err := rig.Mint(claims); err != nil {
			b.Fatal(err)
		}
	}
}
