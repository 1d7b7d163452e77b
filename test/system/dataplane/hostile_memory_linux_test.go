package dataplane

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const (
	greedyPeers = 64
	greedyBody  = 1 << 20   // bytes, the most that a webhook may have
	memoryLimit = 512 << 20 // bytes, the chart's
	memoryBound = 300 << 20 // bytes, of the whole process
	sharedPath  = "/webhooks/exotel/"
)

// greedy is a body that becomes much larger when it is read.
type greedy struct{ path, contentType, query, body string }

// greedyBodies returns bodies of 1 MiB in several shapes. Nobody has signed them, but for those in signed.
func greedyBodies() (unsigned, signed []greedy) {
	fill := func(start, part, end string) string {
		return start + strings.Repeat(part, (greedyBody-len(start)-len(end))/len(part)) + end
	}
	names := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < greedyBody-32; i++ {
			_, _ = fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	const (
		form  = "application/x-www-form-urlencoded"
		parts = "multipart/form-data; boundary=b"
	)
	shapes := []greedy{
		{contentType: "application/json", body: fill(`{"a":[`, `{"":0},`, `0]}`)},
		{contentType: "application/json", body: fill(`{"a":`, `[`, ``)},
		{contentType: "application/json", body: fill(`{"a":`, `{"a":`, ``)},
		{contentType: "application/json", body: `{` + names(`"%x":0,`) + `"a":0}`},
		{contentType: "application/json", body: fill(`{"a":[`, `null,`, `0]}`)},
		{contentType: form, body: names("%x&")},
		{contentType: form, body: fill("a", "&%61=%62", "")},
		{
			contentType: form,
			body:        "CallSid=c1&Stream=" + url.QueryEscape(fill(`{"a":[`, `{"":0},`, `0]}`))[:greedyBody-32],
		},
		{contentType: parts, body: fill("", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n", "--b--")},
		{contentType: parts, body: "--b\r\n" + names("%x:1\r\n") + "\r\n\r\n--b--"},
		{contentType: form, query: names("%x&")[:24<<10], body: "a=b"},
	}
	for _, event := range []string{"status", "acme/support/status", "acme/twilio/passthru"} {
		for _, s := range shapes {
			s.path = sharedPath + event
			unsigned = append(unsigned, s)
		}
	}
	for _, s := range shapes {
		s.path = calytest.StatusPath
		signed = append(signed, s)
	}
	return unsigned, signed
}

// TestHostileBodiesMemory checks that the memory of a data plane stays far below the chart's limit while peers send
// large bodies on many connections, and that good webhooks are answered meanwhile.
func TestHostileBodiesMemory(t *testing.T) {
	pg := pgtest.New(t)
	dataPlane := calytest.NewDataPlane(t, pg, tenantconfig.Tenant{
		Version:    tenantconfig.Version,
		ID:         "acme/twilio",
		AccountSID: "acme1",
		Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
			Scheme:        tenantconfig.SchemeHMACSHA1,
			SignedContent: tenantconfig.SignedURLAndParameters,
			Secrets:       []secret.Sensitive{calytest.SigningSecret},
		}},
	})
	dataPlane.Env = append(dataPlane.Env, "GOMEMLIMIT="+strconv.Itoa(memoryLimit))
	process := calytest.StartFile(t, calytest.BuildWithoutRace(t), dataPlane.Env, dataPlane.Args...)
	dataPlane.AwaitReady()
	ctx, stop := context.WithCancel(t.Context())
	sent := besiegeWithBodies(ctx, t, dataPlane.Public)
	sendGood(t, dataPlane.Public, "near", goodWebhooks)
	eventually.Holds(t, "the peers have sent every body", func() bool { return sent.count.Load() > 4*greedyPeers })
	stop()
	sent.wait.Wait()
	peak := process.PeakMemory()
	t.Logf("%d large bodies, at most %d MiB", sent.count.Load(), peak>>20)
	if peak > memoryBound {
		t.Errorf("the data plane took %d MiB, want at most %d", peak>>20, memoryBound>>20)
	}
	process.Terminate()
	if code := process.End(); code != 0 {
		t.Errorf("it ends with %d: %.2000s", code, process.Errs())
	}
}

type siegeByBodies struct {
	wait  sync.WaitGroup
	count atomic.Int64
}

// besiegeWithBodies sends large bodies on many connections until ctx is done. A signed one is sent by each peer once,
// since it is stored.
func besiegeWithBodies(ctx context.Context, t *testing.T, public string) *siegeByBodies {
	unsigned, signed := greedyBodies()
	s := &siegeByBodies{}
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: greedyPeers, MaxIdleConnsPerHost: greedyPeers}}
	t.Cleanup(client.CloseIdleConnections)
	for peer := range greedyPeers {
		s.wait.Go(func() {
			s.send(
				ctx,
				client,
				public,
				signed[peer%len(signed)],
				hmacSHA1(calytest.SigningSecret, []byte(signed[peer%len(signed)].body)),
			)
			for i := peer; ctx.Err() == nil; i++ {
				s.send(ctx, client, public, unsigned[i%len(unsigned)], []byte("wrong"))
			}
		})
	}
	return s
}

func (s *siegeByBodies) send(ctx context.Context, client *http.Client, public string, g greedy, signature []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+public+g.path+"?"+g.query,
		bytes.NewReader([]byte(g.body)))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", g.contentType)
	req.Header.Set("X-Exotel-Signature", fmt.Sprintf("%x", signature))
	resp, err := client.Do(req)
	if err != nil {
		return // the pod closes the connection of a body that it does not read
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	s.count.Add(1)
}
