//go:build interop

package interop

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/stream"
	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenantID = "acme/support"
	token    = "0123456789abcdef0123456789abcdef"
	agentKey = "opens the agent"
)

// rig is a data plane's listener with the stream endpoint behind it, on a real database.
type rig struct {
	t       *testing.T
	address string
	db      *storetest.DB
	live    *registry.Registry
	tenants atomic.Pointer[tenantconfig.Snapshot]
	calls   atomic.Int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, db: storetest.New(t), address: free(t)}
	r.tenants.Store(tenantconfig.NewSnapshot())
	log := slog.New(slog.DiscardHandler)
	r.live = registry.New(registry.Options{Store: r.db.Dataplane, Pod: "pod", Tenants: r.tenants.Load})
	endpoint := stream.New(stream.Options{
		Tenants:       r.tenants.Load,
		Sessions:      r.live,
		Key:           func() []byte { return nil },
		AllowedAgents: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Log:           log,
		Metrics:       prometheus.NewRegistry(),
		Bridge:        bridge.Options{Budget: patience},
	}) // no program is slow here, but the machine may be
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = r.live.Run(ctx) })
	running.Go(func() {
		err := server.Run(ctx, server.Options{
			Listen:         r.address,
			InternalListen: "127.0.0.1:0",
			Public:         endpoint,
			Internal:       http.NotFoundHandler(),
			Ready:          func(context.Context) error { return nil },
			Grace:          patience,
			Log:            log,
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { endpoint.Drain(); cancel(); running.Wait(); endpoint.Wait() })
	eventually.Within(patience).Holds(t, "the endpoint listens", func() bool {
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return r
}

// free is an address that nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// bridge has the tenant's streams go to an agent.
func (r *rig) bridge(agentURL, protocol string) {
	r.tenants.Store(tenantconfig.NewSnapshot(&tenantconfig.Tenant{
		ID:  tenantID,
		UID: "1",
		Audio: &tenantconfig.Audio{
			AgentURL:   agentURL,
			Protocol:   protocol,
			MaxStreams: 10,
			Headers:    map[string]secret.Sensitive{"X-Agent-Key": agentKey},
			Verifiers:  &tenantconfig.Webhooks{Token: &tenantconfig.Token{Secrets: []secret.Sensitive{token}}},
		},
	}))
}

func (r *rig) url() string { return "ws://" + r.address + stream.PathPrefix + tenantID + "/" + token }

// row of a call's session.
type row struct {
	Reason string
	Ended  bool
}

// ended waits until nothing of the calls is left, and returns how the session of one ended.
func (r *rig) ended(t *testing.T, callSID string) []row {
	t.Helper()
	eventually.Within(patience).Holds(t, "nothing is left of the call", func() bool { return r.live.Live() == 0 })
	return pgtest.Rows[row](
		t, r.db.Server, `SELECT end_reason, ended_at IS NOT NULL FROM stream_sessions WHERE call_sid = $1`, callSID,
	)
}

// newCall is a client's options for a call of its own that says all the pieces, hears them again and then ends as Exotel does.
func (r *rig) newCall(pieces [][]byte) (callSID string, o options) {
	callSID = fmt.Sprintf("call%04d", r.calls.Add(1))
	o = options{
		URL:    r.url(),
		Echoes: len(pieces),
		Stop: fmt.Sprintf(`{"event":"stop","sequence_number":%d,"stream_sid":"s1",`+
			`"stop":{"call_sid":%q,"account_sid":"a1","reason":"callended"}}`, len(pieces)+2, callSID),
	}
	o.Messages = []string{
		`{"event":"connected"}`,
		fmt.Sprintf(`{"event":"start","sequence_number":1,"stream_sid":"s1","start":{"stream_sid":"s1","call_sid":%q,`+
			`"account_sid":"a1","from":"+919876543210","to":"+911234567890","custom_parameters":{"k":"v"},`+
			`"media_format":{"encoding":"raw","sample_rate":"8000","bit_rate":"128"}}}`, callSID),
	}
	for i, piece := range pieces {
		o.Messages = append(
			o.Messages,
			fmt.Sprintf(
				`{"event":"media","sequence_number":%d,"stream_sid":"s1","media":{"chunk":%d,"timestamp":"%d","payload":%q}}`,
				i+2,
				i+1,
				20*i,
				base64.StdEncoding.EncodeToString(piece),
			),
		)
	}
	return callSID, o
}

// media are the pieces of audio in what a client got.
func media(t *testing.T, messages []string) (pieces [][]byte) {
	t.Helper()
	for _, m := range messages {
		var got struct {
			Event  string
			Stream string `json:"stream_sid"`
			Media  struct{ Payload []byte }
		}
		if err := json.Unmarshal([]byte(m), &got); err != nil || got.Event != "media" || got.Stream != "s1" {
			t.Fatalf("the client got %.200q (%v)", m, err)
		}
		pieces = append(pieces, got.Media.Payload)
	}
	return pieces
}

// decoded are pieces of audio in base64.
func decoded(t *testing.T, texts []string) (pieces [][]byte) {
	t.Helper()
	for _, text := range texts {
		piece, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, piece)
	}
	return pieces
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }
