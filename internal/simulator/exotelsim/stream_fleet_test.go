package exotelsim

import (
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
)

// TestStreamsBesideEachOther share their audio and nothing else: each gets back its own.
func TestStreamsBesideEachOther(t *testing.T) {
	server := newAgent(t, agentsim.Options{})
	audio := Noise(2000)
	var group sync.WaitGroup
	reports := make([]Report, 100)
	errs := make([]error, 100)
	for i := range reports {
		group.Add(1)
		go func() {
			defer group.Done()
			reports[i], errs[i] = Stream{
				URL:      server.URL(),
				Audio:    audio,
				Expect:   audio,
				Duration: 200 * ms,
				Linger:   20 * time.Second,
			}.Run(t.Context())
		}()
	}
	group.Wait()
	sids := map[string]bool{}
	for i, r := range reports {
		if errs[i] != nil || !r.Echo.Whole() || r.Echo.Equal != 3200 || r.Code != websocket.CloseNormalClosure ||
			r.Invalid > 0 {
			t.Errorf("%v, %+v", errs[i], r)
		}
		sids[r.CallSID], sids[r.StreamSID] = true, true
	}
	if len(sids) != 200 || server.Started() != 100 {
		t.Errorf("%d ids in %d calls of 100", len(sids), server.Started())
	}
}

// TestStreamOverTLS trusts whom it is told to, and nobody else.
func TestStreamOverTLS(t *testing.T) {
	helper := httptest.NewTLSServer(nil) // for its certificate
	defer helper.Close()
	server := newAgent(t, agentsim.Options{TLS: &tls.Config{Certificates: helper.TLS.Certificates}})
	pool := x509.NewCertPool()
	pool.AddCert(helper.Certificate())
	stream := short
	stream.URL = server.URL()
	if _, err := stream.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
	stream.TLS = &tls.Config{RootCAs: pool}
	stream.Expect = stream.Audio
	stream.Linger = 10 * time.Second
	if report := run(t, stream); !report.Echo.Whole() || report.Echo.Equal != len(stream.Audio) {
		t.Errorf("%+v", report)
	}
	stream.Quirks.DropAfter = 1 // under TLS, too, without its goodbye
	if report := run(t, stream); report.Code != websocket.CloseAbnormalClosure {
		t.Errorf("%+v", report)
	}
}

// TestStreamLingersNoLongerThanItMust verifies that a stream lingers until all audio is back, or for its time.
func TestStreamLingersNoLongerThanItMust(t *testing.T) {
	for name, tc := range map[string]struct {
		o       agentsim.Options
		linger  time.Duration
		missing int
		longest time.Duration
	}{
		"all is back": {agentsim.Options{}, time.Hour, 0, time.Minute},
		"nothing is":  {agentsim.Options{Silent: true}, 300 * ms, len(short.Audio), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			stream := short
			stream.URL = newAgent(t, tc.o).URL()
			stream.Linger = tc.linger
			report := run(t, stream)
			if report.Echo.Missing != tc.missing || report.Lasted > tc.longest ||
				tc.missing > 0 && report.Lasted < tc.linger {
				t.Errorf("%+v", report)
			}
		})
	}
}
