package stream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/wstest"
)

// slowQuestion sends the head of a question for a URL, and one byte of its body.
func slowQuestion(t *testing.T, address, path string) *wstest.Peer {
	t.Helper()
	peer := wstest.Connect(t, address)
	peer.Bytes([]byte("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
		"Content-Length: 100\r\n\r\nC"))
	return peer
}

// TestSlowQuestions tests that questions whose bodies do not arrive block neither handshakes nor questions of
// tenants whose verifiers need no body, and that a slow question gives its place to another one that needs it.
func TestSlowQuestions(t *testing.T) {
	const places = 64
	for name, tc := range map[string]struct {
		path string // of the slow questions
		held int    // places that they get
	}{
		"unverified":           {path: "/audio/exotel/initech/it/url", held: places * 3 / 4},
		"of an unknown tenant": {path: "/audio/exotel/nobody/knows/url", held: places * 3 / 4},
		"verified":             {path: "/audio/exotel/globex/sales/url/" + token, held: places / 4},
		"with a wrong token":   {path: "/audio/exotel/globex/sales/url/" + token[1:], held: places * 3 / 4},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t, agentsim.Options{}, func(o *Options, _ *registry.Options) {
				o.MaxHandshakes = places
				o.BodyWithin = wstest.Patience
			})
			signed := tenantconfig.Tenant{
				ID:  "initech/it",
				UID: "3",
				Audio: &tenantconfig.Audio{
					AgentURL:   rig.agent.URL(),
					Protocol:   "exotel",
					MaxStreams: 10,
					Verifiers: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
						Scheme:  tenantconfig.SchemeHMACSHA256,
						Secrets: []secret.Sensitive{token},
					}},
				},
			}
			acme := rig.tenant
			globex := rig.tenant
			globex.ID = "globex/sales"
			globex.UID = "2"
			rig.tenants.Store(tenantconfig.NewSnapshot(&acme, &globex, &signed))
			address := strings.Split(strings.TrimPrefix(rig.url, "ws://"), "/")[0]
			for range 2 * places {
				slowQuestion(t, address, tc.path)
			}
			refused := func() int { return int(rig.refused(reasonBusy) + rig.refused(reasonTenantBusy)) }
			soon.Holds(rig.t, "the rest is refused", func() bool { return refused() == 2*places-tc.held })
			if n := rig.h.bodies.InUse(); n != tc.held {
				t.Errorf("%d places are held, want %d", n, tc.held)
			}
			if report, err := rig.call(rig.url+"/"+token, nil); err != nil || !report.Echo.Whole() {
				t.Errorf("a call: %v", err)
			}
			const form = "application/x-www-form-urlencoded"
			if resp := rig.get("POST", rig.url+"/url/"+token, "CallSid=call1", form); resp.StatusCode != http.StatusOK {
				t.Errorf("a verified question is answered %d", resp.StatusCode)
			}
			soon.Holds(rig.t, "another question gets the place of a slow one", func() bool {
				resp := rig.get(
					"POST", strings.Replace(rig.url, "acme/support", "initech/it", 1)+"/url", "CallSid=call1", form,
				)
				return resp.StatusCode == http.StatusUnauthorized // read, and found to have no signature
			})
		})
	}
}

// TestSlowQuestionEnds tests that a body that does not arrive is given up after its time even if nobody needs the
// place.
func TestSlowQuestionEnds(t *testing.T) {
	rig := newRig(
		t, agentsim.Options{}, func(o *Options, _ *registry.Options) { o.BodyWithin = 200 * time.Millisecond },
	)
	address := strings.Split(strings.TrimPrefix(rig.url, "ws://"), "/")[0]
	resp, err := slowQuestion(t, address, "/audio/exotel/acme/support/url/"+token).Ask("")
	if err == nil {
		err = isProblem(resp, http.StatusRequestTimeout)
	}
	if err != nil {
		t.Error(err)
	}
	soon.Holds(rig.t, "the place is given back", func() bool { return rig.h.bodies.InUse() == 0 })
}

// blackhole returns an address whose host drops every SYN: a listener whose queue is full.
func blackhole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the queue does not become full")
	return ""
}

// silence returns an address at which connections are accepted and nothing is ever said.
func silence(t *testing.T) string { return listen(t).Addr().String() }

// TestSilentAgent tests that handshakes of a tenant whose agent does not answer hold at most a quarter of the
// places, so that calls of other tenants go on.
func TestSilentAgent(t *testing.T) {
	const places = 32
	for name, tc := range map[string]struct {
		scheme  string
		address func(*testing.T) string
	}{
		"drops SYNs":               {scheme: "ws", address: blackhole},
		"is silent in TLS":         {scheme: "wss", address: silence},
		"is silent after the SYNs": {scheme: "ws", address: silence},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t, agentsim.Options{}, func(o *Options, _ *registry.Options) {
				o.MaxHandshakes = places
				o.DialWithin = wstest.Patience
			})
			healthy := rig.tenant
			ill := rig.tenant
			ill.ID = "globex/sales"
			ill.UID = "2"
			unreachable := *ill.Audio
			unreachable.AgentURL = tc.scheme + "://" + tc.address(t)
			ill.Audio = &unreachable
			rig.tenants.Store(tenantconfig.NewSnapshot(&healthy, &ill))
			address := strings.Split(strings.TrimPrefix(rig.url, "ws://"), "/")[0]
			for range 2 * places {
				wstest.Connect(t, address).Bytes([]byte(wstest.Request(PathPrefix+"globex/sales/"+token) + "\r\n"))
			}
			soon.Holds(rig.t, "the rest is refused", func() bool {
				return rig.refused(reasonTenantBusy) == 2*places-places/4
			})
			if n := rig.h.places.InUse(); n != places/4 {
				t.Errorf("%d places are held, want %d", n, places/4)
			}
			if report, err := rig.call(rig.url+"/"+token, nil); err != nil || !report.Echo.Whole() {
				t.Errorf("a call of another tenant: %v", err)
			}
		})
	}
}

// TestRedials tests that second connections to an agent that does not answer are bounded for each tenant, that those
// beyond the bound wait for their time, and that another tenant's agent is connected to at once.
func TestRedials(t *testing.T) {
	const places = 16
	rig := newRig(t, agentsim.Options{}, func(o *Options, _ *registry.Options) {
		o.MaxHandshakes = places
		o.DialWithin = wstest.Patience
	})
	ill := rig.tenant
	ill.ID = "globex/sales"
	unreachable := *ill.Audio
	unreachable.AgentURL = "ws://" + silence(t)
	ill.Audio = &unreachable
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var redials sync.WaitGroup
	for range places {
		redials.Go(func() {
			if conn, err := rig.h.redial(ctx, rig.h.o.Log, &ill, nil); err == nil {
				_ = conn.Close()
				t.Error("an agent that is silent was connected to")
			}
		})
	}
	soon.Holds(rig.t, "the tenant's places are taken", func() bool { return rig.h.redials.InUse() == places/4 })
	conn, err := rig.h.redial(t.Context(), rig.h.o.Log, &rig.tenant, nil)
	if err != nil {
		t.Fatalf("another tenant's agent: %v", err)
	}
	_ = conn.Close()
	cancel()
	redials.Wait()
	if n := rig.h.redials.InUse(); n != 0 {
		t.Errorf("%d places are held after the end", n)
	}
}
