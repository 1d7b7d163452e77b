package webhook_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// signed is a request with everything that its signature does not cover.
type signed struct{ method, path, contentType, query, body, signature string }

func (s signed) send(h http.Handler) int {
	req := httptest.NewRequest(s.method, s.path+"?"+s.query, strings.NewReader(s.body))
	req.Header.Set("Content-Type", s.contentType)
	req.Header.Set("X-Exotel-Signature", s.signature)
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, req)
	return recorder.Code
}

// replays returns the same signed bytes with other paths, methods, content types and unsigned parts.
func (s signed) replays() (all []signed) {
	bytes := s.body
	if bytes == "" {
		bytes = s.query
	}
	for _, path := range []string{"acme/support/status", "acme/support/passthru", "acme/support/leg",
		"acme/support/recording", "status", "passthru", "leg"} {
		for _, contentType := range []string{s.contentType, "", "application/json", "application/x-www-form-urlencoded",
			"multipart/form-data; boundary=b"} {
			for _, query := range []string{"", "CallSid=c9&Status=failed"} {
				all = append(all, signed{"POST", "/webhooks/exotel/" + path, contentType, query, bytes, s.signature})
			}
		}
		if !strings.ContainsAny(bytes, " \r\n{") {
			all = append(all, signed{"GET", "/webhooks/exotel/" + path, "", bytes, "", s.signature},
				signed{"POST", "/webhooks/exotel/" + path, "", bytes, "", s.signature})
		}
	}
	return all
}

// TestSignedBytesAreOneEvent checks that a signed request makes one event, whatever an attacker who has seen it sends
// with the same signature.
func TestSignedBytesAreOneEvent(t *testing.T) {
	_, db, look := realStore(t)
	all := tenantconfig.NewSnapshot(&tenantconfig.Tenant{
		ID:         "acme/support",
		AccountSID: "acme1",
		Webhooks: &tenantconfig.Webhooks{
			Signature: &tenantconfig.Signature{Scheme: "HMACSHA1", Secrets: []secret.Sensitive{signingSecret}}},
	})
	registry := prometheus.NewRegistry()
	handler := handlerWith(t, webhook.Options{
		Store:   db,
		Metrics: registry,
		Tenants: func() *tenantconfig.Snapshot { return all },
	})
	const form = "application/x-www-form-urlencoded"
	parts := func(boundary, call string) string {
		return strings.ReplaceAll("--b\r\nContent-Disposition: form-data; name=\"CallSid\"\r\n\r\n"+call+"\r\n--b\r\n"+
			"Content-Disposition: form-data; name=\"AccountSid\"\r\n\r\nacme1\r\n--b--\r\n", "--b", "--"+boundary)
	}
	for name, tc := range map[string]struct {
		deliveries []signed // of one event
	}{
		"status in a form": {[]signed{{"POST", "status", form, "",
			"CallSid=%s&AccountSid=acme1&Status=completed&DateUpdated=2024-01-15+14:30:45", ""}}},
		"passthru in a query": {[]signed{{"GET", "passthru", "", "CallSid=%s&AccountSid=acme1&CallType=completed", "", ""}}},
		"status in JSON": {[]signed{{"POST", "status", "application/json", "",
			`{"CallSid":"%s","AccountSid":"acme1","Status":"busy"}`, ""}}},
		"leg": {[]signed{{"POST", "leg", "application/json", "",
			`{"event_sid":"ev-%[1]s","event_name":"leg_answered","CallSid":"%[1]s",` +
				`"data":{"leg_sid":"%[1]s","account_sid":"acme1"}}`, ""}}},
		"multipart, and a retry": {[]signed{{"POST", "status", "multipart/form-data; boundary=b", "", parts("b", "%s"), ""},
			{"POST", "status", "multipart/form-data; boundary=c", "", parts("c", "%s"), ""}}},
		"a form that cannot be read": {[]signed{{"POST", "status", form, "", "CallSid=%s&AccountSid=acme1&Status=%%zz", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			before := look(`SELECT count(*)::text FROM call_events`)
			call := fmt.Sprintf("c%x", name)
			for _, d := range tc.deliveries {
				if d.query = strings.ReplaceAll(d.query, "%s", call); d.body != "" {
					d.body = fmt.Sprintf(d.body, call)
				}
				d.path = "/webhooks/exotel/acme/support/" + d.path
				d.signature = sign(signingSecret, d.body+d.query)
				for range 2 {
					if code := d.send(handler); code != http.StatusOK {
						t.Fatalf("a good request is answered %d", code)
					}
				}
				for _, r := range d.replays() {
					if code := r.send(handler); code != http.StatusOK && code != http.StatusBadRequest &&
						code != http.StatusUnauthorized {
						t.Errorf("%+v is answered %d", r, code)
					}
				}
			}
			after := look(`SELECT count(*)::text FROM call_events`)
			var a, b int
			if _, err := fmt.Sscan(before+" "+after, &a, &b); err != nil || b-a != 1 {
				t.Errorf(
					"%d events more, want 1: %s (%v)", b-a,
					look(`SELECT string_agg(kind || ' ' || call_sid || ' ' ||
					coalesce(dead_reason, 'applied'), ', ' ORDER BY id) FROM call_events`),
					err,
				)
			}
		})
	}
	if n := counted(t, registry, "caly_webhook_events_total", "replayed"); n == 0 {
		t.Error("no replay is counted")
	}
}

// TestBearersSignNothing checks that equal requests under a token stay events of each kind.
func TestBearersSignNothing(t *testing.T) {
	_, db, look := realStore(t)
	all := tenantconfig.NewSnapshot(&tenantconfig.Tenant{
		ID: "acme/support",
		Webhooks: &tenantconfig.Webhooks{
			Token: &tenantconfig.Token{Secrets: []secret.Sensitive{"a token of acme"}}},
	})
	handler := handlerWith(t, webhook.Options{Store: db, Tenants: func() *tenantconfig.Snapshot { return all }})
	for _, path := range []string{"status", "passthru", "status"} {
		s := signed{
			method: "GET",
			path:   "/webhooks/exotel/acme/support/" + path,
			query:  "CallSid=c1&token=a%20token%20of%20acme",
		}
		if code := s.send(handler); code != http.StatusOK {
			t.Fatalf("%s is answered %d", path, code)
		}
	}
	if diff := cmp.Diff("status, passthru",
		look(`SELECT string_agg(kind, ', ' ORDER BY id) FROM call_events`)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
