package stream

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/certtest"
)

// TestAgentTLS verifies that an agent's certificate must name its host, be in date and come from a trusted authority.
// TLS 1.1 is refused.
func TestAgentTLS(t *testing.T) {
	ours := certtest.New(t)
	others := certtest.New(t)
	later := time.Now().Add(time.Hour)
	for name, tc := range map[string]struct {
		certificate tls.Certificate
		max         uint16
		bundle      string
		want        bool
	}{
		"trusted":       {certificate: ours.Sign(t, "127.0.0.1", later), bundle: ours.PEM, want: true},
		"by one of two": {certificate: ours.Sign(t, "127.0.0.1", later), bundle: others.PEM + ours.PEM, want: true},
		"TLS 1.2": {
			certificate: ours.Sign(t, "127.0.0.1", later),
			max:         tls.VersionTLS12,
			bundle:      ours.PEM,
			want:        true,
		},
		"by another":       {certificate: others.Sign(t, "127.0.0.1", later), bundle: ours.PEM},
		"nobody is named":  {certificate: ours.Sign(t, "127.0.0.1", later)},
		"of another host":  {certificate: ours.Sign(t, "127.0.0.2", later), bundle: ours.PEM},
		"too old":          {certificate: ours.Sign(t, "127.0.0.1", time.Now().Add(-time.Hour)), bundle: ours.PEM},
		"TLS 1.1, trusted": {certificate: ours.Sign(t, "127.0.0.1", later), max: tls.VersionTLS11, bundle: ours.PEM},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t, agentsim.Options{TLS: &tls.Config{
				Certificates: []tls.Certificate{tc.certificate},
				MinVersion:   tls.VersionTLS10,
				MaxVersion:   tc.max,
			}}, nil)
			rig.audio(func(a *tenantconfig.Audio) { a.CABundle = tc.bundle })
			report, err := rig.call(rig.url+"/"+token, nil)
			if tc.want {
				if err != nil || !report.Echo.Whole() {
					t.Errorf("%v, echo %+v", err, report.Echo)
				}
				return
			}
			var refused *exotelsim.HandshakeError
			if !errors.As(err, &refused) || refused.Status != 502 || value(t, rig.h.m.dials[dialTLS]) < 1 ||
				rig.agent.Started() != 0 {
				t.Errorf("got %v, want 502, counted as %s", err, dialTLS)
			}
		})
	}
}
