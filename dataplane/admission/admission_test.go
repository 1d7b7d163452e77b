package admission

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a connection that can be ended.
type peer struct {
	http.ResponseWriter
	mu            sync.Mutex
	reads, writes bool // it was ended
}

func (p *peer) SetReadDeadline(time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads = true
	return nil
}

func (p *peer) SetWriteDeadline(time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = true
	return nil
}

func (p *peer) ended() (reads, writes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads, p.writes
}

func newPeer() *peer { return &peer{ResponseWriter: httptest.NewRecorder()} }

// TestShare tests how many places holders get, one after the other, when each takes as many as it can.
func TestShare(t *testing.T) {
	stranger := Address(netip.MustParseAddr("203.0.113.9"))
	for name, tc := range map[string]struct {
		o       Options
		holders []Holder
		want    []int
	}{
		"one tenant": {
			o:       Options{Places: 512, Share: 4},
			holders: []Holder{Tenant("a")},
			want:    []int{128},
		},
		"one tenant of a half": {
			o:       Options{Places: 512, Share: 2},
			holders: []Holder{Tenant("a")},
			want:    []int{256},
		},
		"no share": {
			o:       Options{Places: 8},
			holders: []Holder{Tenant("a")},
			want:    []int{8},
		},
		"several tenants": {
			o:       Options{Places: 512, Share: 4},
			holders: []Holder{Tenant("a"), Tenant("b"), Tenant("c")},
			want:    []int{128, 96, 72},
		},
		"few places": {
			o:       Options{Places: 2, Share: 4},
			holders: []Holder{Tenant("a"), Tenant("b"), Tenant("c")},
			want:    []int{1, 1, 0},
		},
		"strangers": {
			o:       Options{Places: 16},
			holders: []Holder{{}, Tenant("a")},
			want:    []int{12, 4},
		},
		"one client": {
			o:       Options{Places: 16, Share: 4},
			holders: []Holder{stranger, stranger, Tenant("a")},
			want:    []int{4, 0, 3},
		},
		"none": {
			holders: []Holder{{}, Tenant("a")},
			want:    []int{0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := New(tc.o)
			for i, holder := range tc.holders {
				got := 0
				for {
					if _, err := gate.Take(nil, holder); err != nil {
						break
					}
					got++
				}
				if got != tc.want[i] {
					t.Errorf("holder %d has %d places, want %d", i, got, tc.want[i])
				}
			}
		})
	}
}

// TestHolders tests which addresses have a share, and which of them are one client.
func TestHolders(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.9":        "203.0.113.9/32",
		"::ffff:203.0.113.9": "203.0.113.9/32",
		"2001:db8:1:2::3":    "2001:db8:1::/48",
		"10.0.0.1":           "",
		"127.0.0.1":          "",
		"fd00::1":            "",
		"fe80::1%eth0":       "",
	} {
		if got := Address(netip.MustParseAddr(address)); got.name != want || got.tenant {
			t.Errorf("%s is the holder %q, want %q", address, got.name, want)
		}
	}
	if got := Address(netip.Addr{}); got != (Holder{}) {
		t.Errorf("no address is the holder %q", got.name)
	}
}

// TestEvict tests which request gives up its place.
func TestEvict(t *testing.T) {
	const patience = 20 * time.Second
	for name, tc := range map[string]struct {
		share      int
		holders    []Holder // of the requests that are in progress
		state      func(i int, p *Place)
		late       bool // they have been slow for longer than the patience
		newcomer   Holder
		wantErr    error
		wantReads  int // the request whose reading ends; -1: none
		wantWrites int
	}{
		"the slowest body": {
			holders:    []Holder{Tenant("a"), Tenant("b"), Tenant("c"), Tenant("d")},
			late:       true,
			newcomer:   Tenant("e"),
			wantReads:  0,
			wantWrites: -1,
		},
		"no body is late": {
			holders:    []Holder{Tenant("a"), Tenant("b"), Tenant("c"), Tenant("d")},
			newcomer:   Tenant("e"),
			wantErr:    errFull,
			wantReads:  -1,
			wantWrites: -1,
		},
		"a body that has arrived is left alone": {
			holders: []Holder{Tenant("a"), Tenant("b"), Tenant("c"), Tenant("d")},
			late:    true,
			state: func(i int, p *Place) {
				if i == 0 {
					p.Received()
				}
			},
			newcomer:   Tenant("e"),
			wantReads:  1,
			wantWrites: -1,
		},
		"the slowest reader of an answer": {
			holders: []Holder{Tenant("a"), Tenant("b"), Tenant("c"), Tenant("d")},
			late:    true,
			state: func(i int, p *Place) {
				if p.Received(); i == 2 {
					p.Answering()
				}
			},
			newcomer:   Tenant("e"),
			wantReads:  -1,
			wantWrites: 2,
		},
		"a tenant with its share makes room by itself": {
			share:      2,
			holders:    []Holder{Tenant("b"), Tenant("a"), Tenant("a")},
			late:       true,
			newcomer:   Tenant("a"),
			wantReads:  1,
			wantWrites: -1,
		},
		"a tenant with its share takes no other's place": {
			share:   2,
			holders: []Holder{Tenant("b"), Tenant("a"), Tenant("a")},
			late:    true,
			state: func(i int, p *Place) {
				if i > 0 {
					p.Received()
				}
			},
			newcomer:   Tenant("a"),
			wantErr:    ErrShare,
			wantReads:  -1,
			wantWrites: -1,
		},
		"strangers make room for strangers": {
			holders:    []Holder{Tenant("a"), {}, {}, {}},
			late:       true,
			newcomer:   Holder{},
			wantReads:  1,
			wantWrites: -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := New(Options{Places: 4, Share: tc.share, Patience: patience})
				if !tc.late {
					gate.o.Patience = time.Hour
				}
				var peers []*peer
				for i, holder := range tc.holders {
					w := newPeer()
					place, err := gate.Enter(w, holder)
					if err != nil {
						t.Fatal(err)
					}
					if tc.state != nil {
						tc.state(i, place)
					}
					peers = append(peers, w)
				}
				time.Sleep(2 * patience)
				if _, err := gate.Enter(newPeer(), tc.newcomer); !errors.Is(err, tc.wantErr) {
					t.Errorf("the newcomer gets %v, want %v", err, tc.wantErr)
				}
				for i, w := range peers {
					if reads, writes := w.ended(); reads != (i == tc.wantReads) || writes != (i == tc.wantWrites) {
						t.Errorf("request %d: reading ended %t, writing ended %t", i, reads, writes)
					}
				}
			})
		})
	}
}

// TestVerified tests that a place counts for its tenant once the request is verified.
func TestVerified(t *testing.T) {
	gate := New(Options{Places: 8, Share: 4})
	for i, want := range []error{nil, nil, ErrShare} {
		place, err := gate.Enter(newPeer(), Holder{})
		if err != nil {
			t.Fatal(err)
		}
		if err := place.Verified("a"); !errors.Is(err, want) {
			t.Errorf("request %d: %v, want %v", i, err, want)
		}
		if err := place.Verified("a"); !errors.Is(err, want) {
			t.Errorf("request %d again: %v, want %v", i, err, want)
		}
	}
	if gate.strangers != 1 || gate.held[Tenant("a").name] != 2 {
		t.Errorf("%d strangers, %v", gate.strangers, gate.held)
	}
}

// TestWait tests that places go to callers that wait for them, and that none is lost.
func TestWait(t *testing.T) {
	gate := New(Options{Places: 2})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			place, err := gate.Wait(t.Context(), Tenant("a"))
			if err != nil {
				t.Error(err)
			}
			if n := gate.InUse(); n > 2 {
				t.Errorf("%d places are in use", n)
			}
			place.Leave()
			place.Leave()
		})
	}
	all.Wait()
	if n := gate.InUse(); n != 0 {
		t.Errorf("%d places are in use in the end", n)
	}
	if _, err := gate.Take(nil, Tenant("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Take(nil, Tenant("b")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gate.Wait(ctx, Tenant("c")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context ended", err)
	}
}

// TestTogether tests that a gate that many use at once never counts wrongly.
func TestTogether(t *testing.T) {
	gate := New(Options{Places: 16, Share: 2, Patience: time.Nanosecond})
	holders := []Holder{{}, Address(netip.MustParseAddr("203.0.113.9")), Tenant("a"), Tenant("b")}
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for range 500 {
				place, err := gate.Enter(newPeer(), holders[rand.IntN(len(holders))])
				if err != nil {
					continue
				}
				_ = place.Verified("a")
				place.Received()
				place.Answering()
				place.Leave()
				place.Answering()
			}
		})
	}
	all.Wait()
	if gate.InUse() != 0 || gate.strangers != 0 || len(gate.held) != 0 || gate.slow.Len() != 0 {
		t.Errorf(
			"in the end: %d taken, %d strangers, %v, %d slow", gate.taken, gate.strangers, gate.held, gate.slow.Len(),
		)
	}
}
