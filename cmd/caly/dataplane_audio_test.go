package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

const audioToken = "token-of-the-audio-streams"

// withAudio gives the pod's tenant audio that goes to an agent, and so many streams.
func (d *dataPlanePod) withAudio(agentURL string, maxStreams int) {
	d.t.Helper()
	d.withAudioAnd(agentURL, maxStreams, func(*tenantconfig.Tenant) {})
}

func (d *dataPlanePod) withAudioAnd(agentURL string, maxStreams int, change func(*tenantconfig.Tenant)) {
	d.t.Helper()
	env := kubetest.Get(d.t)
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: strings.TrimPrefix(d.args[1], "--work-namespace="), Name: tenantconfig.SecretName(tenantconfig.PrefixTenant, "acme/support")}
	if err := env.Client.Get(d.t.Context(), key, &secret); err != nil {
		d.t.Fatal(err)
	}
	tenant, err := tenantconfig.DecodeTenant(secret.Data[tenantconfig.Key])
	if err != nil {
		d.t.Fatal(err)
	}
	tenant.Audio = &tenantconfig.Audio{AgentURL: agentURL, Protocol: "exotel", MaxStreams: maxStreams,
		Verifiers: &tenantconfig.Webhooks{Token: &tenantconfig.Token{Secrets: []tenantconfig.Sensitive{audioToken}}}}
	change(tenant)
	if secret.Data[tenantconfig.Key], err = tenantconfig.EncodeTenant(*tenant); err != nil {
		d.t.Fatal(err)
	}
	if err := env.Client.Update(d.t.Context(), &secret); err != nil {
		d.t.Fatal(err)
	}
}

// TestLiveCallOutlivesTheSignal : after SIGTERM a live call goes on to the grace, then is closed with 1001; new ones are sent away.
func TestLiveCallOutlivesTheSignal(t *testing.T) {
	server, err := agentsim.NewServer(agentsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	d := newDataPlanePod(t, pgtest.New(t))
	d.withAudio(server.URL(), 2)
	const grace = 4 * time.Second
	d.args = append(d.args, "--allowed-agent-cidrs=127.0.0.0/8", "--stream-grace="+grace.String())
	p := d.start()
	waitFor(t, "the data plane is not ready", d.ready)
	address := "://" + d.public + "/audio/exotel/acme/support/" + audioToken
	ended := make(chan exotelsim.Report, 1)
	go func() {
		report, err := (exotelsim.Stream{URL: "ws" + address, Audio: exotelsim.Noise(8000), Duration: time.Minute}).Run(t.Context())
		if err != nil {
			t.Error(err)
		}
		ended <- report
	}()
	waitFor(t, "no call is live", func() bool { return server.Live() == 1 })
	signalled := time.Now()
	p.terminate()
	waitFor(t, "a new call is not sent away", func() bool {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http"+address, nil)
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
	})
	report := <-ended
	if report.Code != 1001 || time.Since(signalled) < grace || report.Received.Bytes == 0 {
		t.Errorf("it ended after %s with %d, %d bytes heard", time.Since(signalled), report.Code, report.Received.Bytes)
	}
	if code := p.end(); code != 0 {
		t.Errorf("it ends with %d: %s", code, p.errs.String())
	}
	if said := p.out.String() + p.errs.String(); strings.Contains(said, audioToken) || strings.Contains(said, "panic") {
		t.Errorf("it says %s", said)
	}
}
