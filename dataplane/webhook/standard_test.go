package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// standardDelivery is a webhook that is signed as Standard Webhooks says, and perhaps in X-Exotel-Signature too.
type standardDelivery struct {
	name, path, id, body string
	age                  time.Duration // of the signature
	stamp                string        // the time that is sent with the signature; empty: the true one
	plain, alone         bool          // with X-Exotel-Signature; with nothing else
	code                 int
	events               string // events afterwards
}

func (d standardDelivery) send(h http.Handler) int {
	stamp := strconv.FormatInt(time.Now().Add(-d.age).Unix(), 10)
	if d.stamp != "" {
		stamp = d.stamp
	}
	mac := hmac.New(sha256.New, []byte(signingSecret))
	mac.Write([]byte(d.id + "." + stamp + "." + d.body))
	req := httptest.NewRequest(http.MethodPost, "/webhooks/exotel/"+d.path, strings.NewReader(d.body))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if !d.alone {
		req.Header.Set("Webhook-Id", d.id)
		req.Header.Set("Webhook-Timestamp", stamp)
		req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if d.plain {
		req.Header.Set("X-Exotel-Signature", sign(signingSecret, d.body))
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, req)
	return recorder.Code
}

// TestWebhookIDIsOneEvent checks that the webhook-id of Standard Webhooks identifies an event. The specification
// (standard-webhooks, spec/standard-webhooks.md, "Webhook metadata"): the id "remains the same no matter how many times
// a webhook that has failed is retried", while the timestamp is that of the attempt.
func TestWebhookIDIsOneEvent(t *testing.T) {
	const (
		call1  = "CallSid=c1&CallType=completed&Status=completed"
		call2  = "CallSid=c2&CallType=completed&Status=completed"
		status = "acme/support/status"
		pass   = "acme/support/passthru"
	)
	_, db, look := realStore(t)
	standard := &tenantconfig.StandardWebhooks{Tolerance: time.Hour, Secrets: []secret.Sensitive{signingSecret}}
	signature := &tenantconfig.Signature{Scheme: "HMACSHA1", Secrets: []secret.Sensitive{signingSecret}}
	all := tenantconfig.NewSnapshot(
		&tenantconfig.Tenant{ID: "acme/support", Webhooks: &tenantconfig.Webhooks{Standard: standard}},
		&tenantconfig.Tenant{ID: "acme/sales", Webhooks: &tenantconfig.Webhooks{Standard: standard}},
		&tenantconfig.Tenant{
			ID:       "acme/both",
			Webhooks: &tenantconfig.Webhooks{Standard: standard, Signature: signature},
		},
	)
	handler := handlerWith(t, webhook.Options{Store: db, Tenants: func() *tenantconfig.Snapshot { return all }})
	for _, d := range []standardDelivery{
		{name: "first", path: status, id: "m1", body: call1, events: "1"},
		{name: "retry", path: status, id: "m1", body: call1, age: time.Minute, events: "1"},
		{name: "id known, other body", path: status, id: "m1", body: call2, events: "1"},
		{name: "id known, other kind", path: pass, id: "m1", body: call1, events: "1"},
		{name: "id known, other kind and body", path: pass, id: "m1", body: call2, events: "1"},
		{name: "new id, same fields", path: status, id: "m2", body: call1, events: "2"},
		{name: "that id, other kind", path: pass, id: "m2", body: call1, events: "2"},
		{name: "another new id, other kind", path: pass, id: "m3", body: call1, events: "3"},
		{name: "new id, other call", path: status, id: "m4", body: call2, events: "4"},
		{name: "other tenant", path: "acme/sales/status", id: "m1", body: call1, events: "5"},
		{name: "id with a full stop", path: status, id: "m.5", body: call1, code: http.StatusUnauthorized, events: "5"},
		{name: "with both signatures", path: "acme/both/status", id: "m1", body: call1, plain: true, events: "6"},
		{name: "without the other signature", path: "acme/both/passthru", id: "m1", body: call1, events: "6"},
		{name: "without the id", path: "acme/both/passthru", body: call1, plain: true, alone: true, events: "6"},
	} {
		if code := d.send(handler); code != max(d.code, http.StatusOK) {
			t.Errorf("%s: status %d", d.name, code)
		}
		if got := look(`SELECT count(*)::text FROM call_events`); got != d.events {
			t.Errorf("%s: %s events, want %s", d.name, got, d.events)
		}
	}
}

// TestPartOfABodyIsNotAnID checks that an attacker who has seen a webhook whose body holds a time between full stops,
// as the names of Exotel's voicemail files do, cannot send a part of it under an id of their own.
func TestPartOfABodyIsNotAnID(t *testing.T) {
	_, db, look := realStore(t)
	all := tenantconfig.NewSnapshot(&tenantconfig.Tenant{
		ID: "acme/support",
		Webhooks: &tenantconfig.Webhooks{
			Standard: &tenantconfig.StandardWebhooks{Tolerance: time.Hour, Secrets: []secret.Sensitive{signingSecret}}},
	})
	handler := handlerWith(t, webhook.Options{Store: db, Tenants: func() *tenantconfig.Snapshot { return all }})
	const (
		path  = "acme/support/status"
		start = "RecordingUrl=https://recordings.exotel.com/exotelrecordings/acme1/x"
		rest  = "76627_1.mp3&CallSid=c1&Status=completed"
	)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	seen := standardDelivery{path: path, id: "m1", body: start + "." + now + "." + rest}
	if code := seen.send(handler); code != http.StatusOK {
		t.Fatalf("the webhook is answered %d", code)
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	forged := standardDelivery{path: path, id: "m1." + stamp + "." + start, stamp: now, body: rest}
	if code := forged.send(handler); code != http.StatusUnauthorized {
		t.Errorf("a part of it is answered %d, want 401", code)
	}
	if got := look(`SELECT count(*)::text FROM call_events`); got != "1" {
		t.Errorf("%s events, want 1", got)
	}
}
