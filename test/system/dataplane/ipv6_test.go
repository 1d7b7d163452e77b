package dataplane

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestDataPlaneOverIPv6 runs a data plane in which only IPv6 is used: listeners, PostgreSQL, a tenant's ranges and its
// agent.
func TestDataPlaneOverIPv6(t *testing.T) {
	const free = "[::1]:0"
	if listener, err := net.Listen("tcp", free); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		_ = listener.Close()
	}
	agent, err := agentsim.NewServer(agentsim.Options{Listen: free})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	six := func(address string) string { return strings.Replace(address, "127.0.0.1", "[::1]", 1) }
	pg := pgtest.New(t)
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.WithAudio(agent.URL(), 2)
	dataPlane.Change(func(tenant *tenantconfig.Tenant) {
		tenant.Webhooks.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("::1/128")}
	})
	for i, arg := range dataPlane.Args {
		dataPlane.Args[i] = six(arg)
	}
	dataPlane.Public, dataPlane.Internal = six(dataPlane.Public), six(dataPlane.Internal)
	dataPlane.Env = append(dataPlane.Env, "CALY_DATABASE_URL="+pgtest.At(t, pg.DataplaneDSN, six(pg.Address())))
	dataPlane.Args = append(dataPlane.Args, "--allowed-agent-cidrs=::1/128", "--public-url=http://"+dataPlane.Public)
	process := dataPlane.Run()

	sender := exotelsim.Sender{Secret: calytest.SigningSecret}
	fields := exotelsim.Call{SID: "c1"}.Answered()
	target := "http://" + dataPlane.Public + "/webhooks/exotel/acme/support/status"
	status, _, err := sender.Send(t.Context(), target, fields, exotelsim.Form)
	if err != nil || status != http.StatusOK || events(t, pg) != 1 {
		t.Errorf("a webhook is answered %d, %v, and %d events are stored", status, err, events(t, pg))
	}
	stream := exotelsim.Stream{
		URL:      "ws://" + dataPlane.Public + calytest.AudioPath,
		Audio:    exotelsim.Noise(8000),
		Duration: time.Second,
	}
	if report, err := stream.Run(t.Context()); err != nil || report.Received.Bytes == 0 {
		t.Errorf("of a stream %d bytes came back, %v", report.Received.Bytes, err)
	}
	process.Terminate()
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d: %s", code, process.Errs())
	}
}
