package webhook_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/server"
	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const token = "a-token-of-initech"

// routed are tenants with accounts and numbers: two share an account, two a number.
func routed() *tenantconfig.Snapshot {
	signed := func(s secret.Sensitive) *tenantconfig.Webhooks {
		return &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
			Scheme:  tenantconfig.SchemeHMACSHA1,
			Secrets: []secret.Sensitive{s},
		}}
	}
	return tenantconfig.NewSnapshot(
		&tenantconfig.Tenant{
			ID:           "acme/support",
			AccountSID:   "acme1",
			PhoneNumbers: []string{"+918047491899"},
			Webhooks:     signed(signingSecret),
		},
		&tenantconfig.Tenant{
			ID:           "globex/sales",
			AccountSID:   "globex1",
			PhoneNumbers: []string{"+918047490001"},
			Webhooks:     signed("a signing secret of globex"),
		},
		&tenantconfig.Tenant{
			ID:           "globex/care",
			AccountSID:   "globex1",
			PhoneNumbers: []string{"+918047490002"},
			Webhooks:     signed("a signing secret of globex"),
		},
		&tenantconfig.Tenant{
			ID:           "initech/it",
			AccountSID:   "initech1",
			PhoneNumbers: []string{"+918047490009"},
			Webhooks:     &tenantconfig.Webhooks{Token: &tenantconfig.Token{Secrets: []secret.Sensitive{token}}},
		},
		&tenantconfig.Tenant{
			ID:           "umbrella/lab",
			PhoneNumbers: []string{"+918047490009"},
			Webhooks:     signed("a signing secret of umbrella"),
		},
		&tenantconfig.Tenant{
			ID:       "hooli/office",
			Webhooks: &tenantconfig.Webhooks{AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
		},
	)
}

func TestRoutes(t *testing.T) {
	const legBody = `{"event_sid":"ev1","event_name":"leg_answered","data":{"leg_sid":"c1","account_sid":"acme1",` +
		`"state":"in-progress"}}`
	type want struct {
		status               int
		tenant, kind, reason string
	}
	for name, tc := range map[string]struct {
		path, query, body, key string
		header                 http.Header
		want                   want
	}{
		"tenant's own": {
			path: "acme/support/call-end",
			body: "CallSid=c1",
			want: want{200, "acme/support", "status",
				""},
		},
		"call-start": {
			path: "call-start",
			body: "CallSid=c1&AccountSid=acme1",
			want: want{200, "acme/support",
				"status", ""},
		},
		"call-answered": {
			path: "call-answered",
			body: "CallSid=c1&AccountSid=acme1",
			want: want{200, "acme/support",
				"status", ""},
		},
		"call-end": {
			path: "call-end",
			body: "CallSid=c1&AccountSid=acme1",
			want: want{200, "acme/support",
				"status", ""},
		},
		"recording": {
			path: "recording",
			body: "CallSid=c1&AccountSid=acme1",
			want: want{200, "acme/support",
				"status", ""},
		},
		"status": {
			path: "status",
			body: "CallSid=c1&AccountSid=acme1",
			want: want{200, "acme/support",
				"status", ""},
		},
		"passthru": {
			path:  "passthru",
			query: "CallSid=c1&CallTo=08047491899",
			want: want{200, "acme/support",
				"passthru", ""},
		},
		"number called twice": {
			path:  "passthru",
			query: "CallSid=c1&CallTo=08047491899&CallTo=9876543210",
			want:  want{200, "acme/support", "passthru", ""},
		},
		"leg": {
			path:   "leg",
			body:   legBody,
			header: http.Header{"X-Exotel-Event-Sid": {"ev1"}},
			want: want{
				200, "acme/support", "leg", ""},
		},
		"leg with the wrong header": {
			path: "leg",
			body: legBody,
			header: http.Header{
				"X-Exotel-Event-Sid": {"ev2"}},
			want: want{200, "acme/support", "leg", ""},
		},
		"by ExoPhone": {
			path: "status",
			body: "CallSid=c1&PhoneNumberSid=08047491899&To=09000000000&From=09000000001",
			want: want{200, "acme/support", "status", ""},
		},
		"by number called from": {
			path: "status",
			body: "CallSid=c1&From=8047491899",
			want: want{200, "acme/support", "status", ""},
		},
		"ExoPhone before who is called": {
			path: "status",
			body: "CallSid=c1&PhoneNumberSid=08047491899&To=08047490001",
			want: want{200, "acme/support", "status", ""},
		},
		"account of two, by number": {
			path: "status",
			body: "CallSid=c1&AccountSid=globex1&To=08047490002",
			key:  "a signing secret of globex",
			want: want{200, "globex/care", "status", ""},
		},
		"account of two": {
			path: "status",
			body: "CallSid=c1&AccountSid=globex1",
			key:  "a signing secret of globex",
			want: want{401, "", "", "ambiguous_tenant"},
		},
		"number of two": {
			path: "status",
			body: "CallSid=c1&To=08047490009",
			key:  "a signing secret of umbrella",
			want: want{401, "", "", "unknown_tenant"},
		},
		"numbers of two": {
			path: "status",
			body: "CallSid=c1&To=08047491899&From=08047490001",
			want: want{401, "", "", "ambiguous_tenant"},
		},
		"account of nobody": {
			path: "status",
			body: "CallSid=c1&AccountSid=nobody1&To=08047491899",
			want: want{401, "", "", "unknown_tenant"},
		},
		"nothing to go by": {
			path: "status",
			body: "CallSid=c1",
			want: want{401, "", "", "unknown_tenant"},
		},
		"unreadable": {
			path: "status",
			body: "AccountSid=%zz",
			want: want{401, "", "", "unknown_tenant"},
		},
		"another tenant's secret": {
			path: "status",
			body: "CallSid=c1&AccountSid=globex1&To=08047490001",
			want: want{401, "", "", "wrong_signature"},
		},
		"account outside of what is signed": {
			path:  "status",
			query: "AccountSid=acme1",
			body:  "CallSid=c1",
			want:  want{200, "acme/support", "status", ""},
		},
		"token in the path": {
			path: "initech/it/status/" + token,
			body: "CallSid=c1",
			want: want{200, "initech/it", "status", ""},
		},
		"token in the shared path": {
			path: "status/" + token,
			body: "CallSid=c1&AccountSid=initech1",
			want: want{200, "initech/it", "status", ""},
		},
		"token in the query": {
			path:  "passthru",
			query: "AccountSid=initech1&CallSid=c1&token=" + token,
			want:  want{200, "initech/it", "passthru", ""},
		},
		"query next to a body, by token": {
			path:  "initech/it/status",
			query: "CallSid=c1&token=" + token,
			body:  "Status=busy",
			want:  want{200, "initech/it", "status", ""},
		},
		"wrong token": {
			path: "initech/it/status/not-that-one",
			body: "CallSid=c1",
			want: want{401, "", "", "wrong_token"},
		},
		"address through a proxy": {
			path:   "hooli/office/status",
			body:   "CallSid=c1",
			header: http.Header{"X-Forwarded-For": {"203.0.113.7"}},
			want:   want{200, "hooli/office", "status", ""},
		},
		"address that the sender made up": {
			path:   "hooli/office/status",
			body:   "CallSid=c1",
			header: http.Header{"X-Forwarded-For": {"203.0.113.7, 198.51.100.1"}},
			want:   want{401, "", "", "address_not_allowed"},
		},
		"two elements":      {path: "acme/support", body: "CallSid=c1", want: want{404, "", "", ""}},
		"trailing slash":    {path: "status/", body: "CallSid=c1", want: want{404, "", "", ""}},
		"too many elements": {path: "acme/support/status/x/y", body: "CallSid=c1", want: want{404, "", "", ""}},
		"none":              {path: "", body: "CallSid=c1", want: want{404, "", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{outcome: store.Applied}
			registry := prometheus.NewRegistry()
			var logged bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
			handler := server.Middleware(handlerWith(t, webhook.Options{
				Tenants:        routed,
				Store:          f,
				Metrics:        registry,
				Log:            log,
				TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			}), log)
			if tc.key == "" {
				tc.key = signingSecret
			}
			method := http.MethodPost
			signed := tc.body
			if tc.body == "" {
				method = http.MethodGet
				signed = tc.query
			}
			req := httptest.NewRequest(method, webhook.PathPrefix+tc.path+"?"+tc.query, strings.NewReader(tc.body))
			for k, v := range tc.header {
				req.Header[k] = v
			}
			req.Header.Set("X-Exotel-Signature", sign(tc.key, signed))
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, req)
			if recorder.Code != tc.want.status || recorder.Header().Get("Location") != "" {
				t.Fatalf("answered %d %s, want %d", recorder.Code, recorder.Body, tc.want.status)
			}
			if strings.Contains(logged.String(), token) {
				t.Errorf("logged: %s", logged.String())
			}
			switch tc.want.status {
			case http.StatusOK:
				event := f.got[0]
				if event.Tenant != tc.want.tenant || event.Kind != tc.want.kind || event.DeadReason != tc.want.reason ||
					strings.Contains(event.Query, token) {
					t.Errorf(
						"kept %+v, want of %s, a %s, dead for %q", event, tc.want.tenant, tc.want.kind, tc.want.reason,
					)
				}
			case http.StatusNotFound:
				if strings.Contains(logged.String(), `"tenant":"acme`) {
					t.Errorf("a path that is not a webhook's is logged: %s", logged.String())
				}
			case http.StatusUnauthorized:
				id := recorder.Header().Get("X-Request-Id")
				if line := `"msg":"rejected a webhook","request":"` + id + `","tenant":"`; !strings.Contains(
					logged.String(), line,
				) {
					t.Errorf("the log lacks %s: %s", line, logged.String())
				}
				checkRefusal(t, registry, logged.String(), tc.want.reason)
			}
		})
	}
}

// checkRefusal wants the exact reason in metric and log.
func checkRefusal(t *testing.T, registry *prometheus.Registry, logged, reason string) {
	t.Helper()
	if !strings.Contains(logged, fmt.Sprintf(`"reason":%q`, reason)) {
		t.Errorf("logged %s, want the reason %s", logged, reason)
	}
	if n := counted(t, registry, "caly_webhook_verification_failures_total", reason); n != 1 {
		t.Errorf("the metric counts %v of %s", n, reason)
	}
}

// counted is a counter's value under the one label that it has.
func counted(t *testing.T, registry *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// TestMergedFields verifies that a token authenticates the query and the body, and that a field of the body has
// precedence.
func TestMergedFields(t *testing.T) {
	f := &fake{outcome: store.Applied}
	handler := handlerWith(t, webhook.Options{Tenants: routed, Store: f})
	post(
		handler,
		webhook.PathPrefix+"initech/it/status/"+token+"?CallSid=c1&Status=busy&From=0987",
		"",
		"Status=completed&To=0912",
	)
	want := store.Call{State: store.CallCompleted, From: "0987", To: "0912"}
	if len(f.got) != 1 || f.got[0].CallSID != "c1" || f.got[0].Call != want {
		t.Errorf("kept %+v, want call c1 with %+v", f.got, want)
	}
}

// TestMetrics verifies that each outcome is counted under its name, and that each metric has a help text.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	for outcome, name := range map[store.Outcome]string{
		store.Applied:   "applied",
		store.Duplicate: "duplicate",
		store.Replayed:  "replayed",
		store.Dead:      "dead",
	} {
		registry := prometheus.NewRegistry()
		handler := handlerWith(t, webhook.Options{Store: &fake{outcome: outcome}, Metrics: registry})
		post(handler, statusPath, sign(signingSecret, statusBody), statusBody)
		if n := counted(t, registry, "caly_webhook_events_total", name); n != 1 {
			t.Errorf("%v events are %s, want 1", n, name)
		}
	}
	handler := handlerWith(t, webhook.Options{Store: &fake{outcome: store.Applied}, Metrics: registry})
	post(handler, statusPath, sign(signingSecret, statusBody), statusBody)
	post(handler, statusPath, "", statusBody)
	if n := metricOf(t, registry, "caly_webhook_verified_total"); n != 1 {
		t.Errorf("of a signed and an unsigned webhook %v are verified, want 1", n)
	}
	for name, tc := range map[string]struct {
		label string
		want  float64
	}{
		"received_total":              {"status", 2},
		"rejected_total":              {"invalid_signature", 1},
		"verification_failures_total": {"missing_signature", 1},
	} {
		if got := counted(t, registry, "caly_webhook_"+name, tc.label); got != tc.want {
			t.Errorf("%s of %s is %v, want %v", name, tc.label, got, tc.want)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "caly_webhook_")
		got[name] = f.GetHelp() != ""
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				got[name+" "+label.GetValue()] = true
			}
		}
	}
	for _, name := range []string{"received_total", "verified_total", "events_total", "rejected_total",
		"verification_failures_total", "ack_seconds", "commit_batch_events", "in_flight",
		"in_flight_max", "received_total leg", "events_total dead", "rejected_total unavailable",
		"unread_fields_total other"} {
		if !got[name] {
			t.Errorf("%s is not there, or has no help", name)
		}
	}
}

// TestTenantsNotYetKnown sends webhooks to a pod that lacks tenant configs. What it does not know may exist: the sender
// must send it again. What it knows is answered as always.
func TestTenantsNotYetKnown(t *testing.T) {
	known, ok := tenants().Tenant("acme/support")
	if !ok {
		t.Fatal("no tenant")
	}
	for name, tc := range map[string]struct {
		snapshot *tenantconfig.Snapshot
		path     string
		want     int
	}{
		"nothing is known":     {tenantconfig.NewIncompleteSnapshot(), "acme/support/status", 503},
		"nothing, shared path": {tenantconfig.NewIncompleteSnapshot(), "status", 503},
		"another is missing":   {tenantconfig.NewIncompleteSnapshot(known), "globex/sales/passthru", 503},
		"no such tenant":       {tenantconfig.NewIncompleteSnapshot(known), "no/body/leg", 503},
		"known, not signed":    {tenantconfig.NewIncompleteSnapshot(known), "acme/support/status", 401},
		"all are known":        {tenantconfig.NewSnapshot(known), "no/body/status", 401},
	} {
		t.Run(name, func(t *testing.T) {
			handler := handlerWith(t, webhook.Options{Tenants: func() *tenantconfig.Snapshot { return tc.snapshot }})
			srv := httptest.NewServer(handler)
			defer srv.Close()
			status, body, header := do(t, "POST", srv.URL+webhook.PathPrefix+tc.path, "", "CallSid=c1&AccountSid=acme1")
			if status != tc.want || (header.Get("Retry-After") != "") != (tc.want == 503) {
				t.Errorf("answered %d, Retry-After %q: %s; want %d", status, header.Get("Retry-After"), body, tc.want)
			}
		})
	}
}
