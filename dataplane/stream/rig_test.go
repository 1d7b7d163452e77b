package stream

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/logtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

const (
	token    = "0123456789abcdef0123456789abcdef"
	password = "correct horse battery"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// soon bounds a wait for what must happen without delay.
const soon = eventually.Within(15 * time.Second)

// rig is a pod's endpoint on a real database, with a tenant's agent.
type rig struct {
	t       *testing.T
	h       *Handler
	url     string        // of the tenant's streams
	address string        // of the endpoint
	path    string        // of a stream that is let in
	another func() string // serves a second pod, and returns its url
	agent   *agentsim.Server
	agents  net.Listener // of the agent that a test plays; see newWiredRig
	tenants atomic.Pointer[tenantconfig.Snapshot]
	tenant  tenantconfig.Tenant
	live    *registry.Registry
	now     atomic.Pointer[time.Time]
	log     *logtest.Buffer
	s3      *s3test.Bucket // of the tenant's captures; see newCapturingRig

	db       *storetest.DB
	registry *prometheus.Registry
}

func newRig(t *testing.T, agentOptions agentsim.Options, change func(*Options, *registry.Options)) *rig {
	t.Helper()
	server, err := agentsim.NewServer(agentOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	protocol := agentOptions.Protocol
	if protocol == "" {
		protocol = agent.Exotel
	}
	r := &rig{
		t:        t,
		agent:    server,
		log:      &logtest.Buffer{},
		db:       storetest.New(t),
		registry: prometheus.NewPedanticRegistry(),
	}
	r.set(tenantconfig.Tenant{
		ID:  "acme/support",
		UID: "1",
		Audio: &tenantconfig.Audio{
			AgentURL:   server.URL(),
			Protocol:   string(protocol),
			MaxStreams: 10,
			Headers:    map[string]secret.Sensitive{"X-Agent-Key": "opens the agent"},
			Verifiers: &tenantconfig.Webhooks{Token: &tenantconfig.Token{
				Query:   "token",
				Secrets: []secret.Sensitive{token},
			}},
		},
	})
	sessions := registry.Options{
		Store:     r.db.Dataplane,
		Pod:       "pod",
		Tenants:   r.tenants.Load,
		LookEvery: 20 * time.Millisecond,
	}
	options := Options{
		Tenants:       r.tenants.Load,
		Key:           func() []byte { return []byte("the ring's") },
		AllowedAgents: loopback,
		DialWithin:    time.Second,
		Log:           slog.New(slog.NewTextHandler(r.log, nil)),
		Metrics:       r.registry,
		now:           r.clock,
	}
	if change != nil {
		change(&options, &sessions)
	}
	r.h, r.live, r.url = pod(t, options, sessions)
	endpoint, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	r.address = endpoint.Host
	r.path = endpoint.Path + "/" + token
	r.another = func() string {
		options.Metrics = prometheus.NewPedanticRegistry()
		sessions.Pod = "another"
		_, _, url := pod(t, options, sessions)
		return url
	}
	return r
}

// pod serves the endpoint until the test ends.
func pod(t *testing.T, o Options, sessions registry.Options) (*Handler, *registry.Registry, string) {
	t.Helper()
	registry := registry.New(sessions)
	o.Sessions = registry
	handler := New(o)
	front := httptest.NewServer(handler)
	t.Cleanup(front.Close)
	stop := background.Run(t, registry.Run)
	t.Cleanup(func() { handler.Drain(); stop(); handler.Wait() })
	return handler, registry, strings.Replace(front.URL, "http", "ws", 1) + PathPrefix + "acme/support"
}

func (r *rig) clock() time.Time {
	if now := r.now.Load(); now != nil {
		return *now
	}
	return time.Now()
}

// set puts a tenant in force, next to another one with the same secrets.
func (r *rig) set(t tenantconfig.Tenant) {
	r.tenant = t
	other := t
	other.ID = "globex/sales"
	other.UID = "2"
	r.tenants.Store(tenantconfig.NewSnapshot(&t, &other))
}

// audio changes the tenant's.
func (r *rig) audio(change func(*tenantconfig.Audio)) {
	t := r.tenant
	a := *r.tenant.Audio
	change(&a)
	t.Audio = &a
	r.set(t)
}

// call talks for a moment and hears the echo.
func (r *rig) call(url string, change func(*exotelsim.Stream)) (exotelsim.Report, error) {
	stream := exotelsim.Stream{URL: url, Audio: exotelsim.Noise(1600), Linger: 5 * time.Second, CallSID: "call1"}
	stream.Expect = stream.Audio
	if change != nil {
		change(&stream)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	return stream.Run(ctx)
}

func (r *rig) refused(reason string) float64 { return value(r.t, r.h.m.rejected[reason]) }

// value of a counter or gauge, or how often a histogram was told.
func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue() + float64(out.GetHistogram().GetSampleCount())
}

// get asks for a URL over plain HTTP.
func (r *rig) get(method, url, body, contentType string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(
		r.t.Context(), method, strings.Replace(url, "ws", "http", 1), strings.NewReader(body),
	)
	if err != nil {
		r.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}
