//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// TestJourney sends the calls of two tenants at once: every recording ends as one object equal to its source, under its own
// tenant's prefix, and every CallRecording becomes Ready.
func TestJourney(t *testing.T) {
	const calls = 8
	src := newSource(t)
	tenants := []*tenant{newTenant(t, tenantOptions{source: src.url}), newTenant(t, tenantOptions{source: src.url})}
	recs := make([][]announced, len(tenants))
	for i, x := range tenants {
		recs[i] = src.recordings(x, calls, 100_000)
		x.announce(t, recs[i])
	}
	for i, x := range tenants {
		x.waitUploaded(t, calls, 2*time.Minute)
		src.verify(t, x, recs[i])
		minute.Reaches(t, "all CallRecordings of "+x.id()+" are Ready", func(ctx context.Context) (bool, string) {
			return allReady(ctx, x, calls)
		})
	}
}

func allReady(ctx context.Context, x *tenant, want int) (ok bool, seen string) {
	items, err := x.callRecordings(ctx)
	if err != nil {
		return false, err.Error()
	}
	ready := 0
	for _, r := range items {
		if apimeta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.ConditionReady) {
			ready++
		}
	}
	return ready == want && len(items) == want, fmt.Sprintf("%d of %d Ready", ready, len(items))
}

// TestRefusals sends what must not get in, and then shows that nothing did.
func TestRefusals(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	body := src.recordings(tenant, 1, 1000)[0].terminal()
	for name, tc := range map[string]struct {
		url, secret, body string
		want              int
	}{
		"bad signature":     {tenant.statusURL(), "not the secret", body, http.StatusUnauthorized},
		"missing signature": {tenant.statusURL(), "", body, http.StatusUnauthorized},
		"unknown tenant": {
			strings.Replace(tenant.statusURL(), "/support/", "/nobody/", 1),
			tenant.secret,
			body,
			http.StatusUnauthorized,
		},
		"oversized body": {
			tenant.statusURL(),
			tenant.secret,
			strings.Repeat("a", 2<<20),
			http.StatusRequestEntityTooLarge,
		},
		"unknown event": {
			strings.Replace(tenant.statusURL(), "/status", "/nonsense", 1),
			tenant.secret,
			body,
			http.StatusNotFound,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tenant.post(t.Context(), tc.url, tc.secret, tc.body)
			if err != nil || got != tc.want {
				t.Errorf("answered %d, %v; want %d", got, err, tc.want)
			}
		})
	}
	if q, u, f, err := tenant.counts(t.Context()); err != nil || q+u+f != 0 {
		t.Errorf("refused events left %d rows (%v)", q+u+f, err)
	}
}

// TestDuplicate delivers one event five times: each is answered 200, and there is one event, one recording, one object.
func TestDuplicate(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(tenant, 1, 50_000)
	body := recs[0].terminal()
	for range 5 {
		tenant.sendStatus(t, body)
	}
	tenant.waitUploaded(t, 1, time.Minute)
	tenant.sendStatus(t, body) // again, when it is history
	time.Sleep(2 * time.Second)
	tenant.waitUploaded(t, 1, 10*time.Second)
	src.verify(t, tenant, recs)
	var events int
	if err := tenant.db.QueryRow(
		t.Context(), `SELECT count(*) FROM call_events WHERE tenant = $1`, tenant.id(),
	).Scan(&events); err != nil ||
		events != 1 {
		t.Errorf("%d events were kept, %v; want 1", events, err)
	}
}

// TestApply makes a CallRecording by hand: a good one is uploaded, and each bad one says why it is not.
func TestApply(t *testing.T) {
	src := newSource(t)
	x := newTenant(t, tenantOptions{source: src.url})
	good := src.recordings(x, 1, 70_000)
	for name, tc := range map[string]struct {
		tenant, url string
		condition   string
		reason      string
	}{
		"good":           {"support", good[0].sourceURL, v1alpha1.ConditionReady, v1alpha1.ReasonUploaded},
		"unknown tenant": {"nobody", good[0].sourceURL, v1alpha1.ConditionStalled, v1alpha1.ReasonTenantNotFound},
		"host off list": {
			"support",
			"https://evil.example/a.mp3",
			v1alpha1.ConditionStalled,
			v1alpha1.ReasonSourceRefused,
		},
		"private address": {
			"support",
			"http://169.254.169.254/latest",
			v1alpha1.ConditionStalled,
			v1alpha1.ReasonSourceRefused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &v1alpha1.CallRecording{
				ObjectMeta: metav1.ObjectMeta{Namespace: x.ns, Name: strings.ReplaceAll(name, " ", "-")},
				Spec: v1alpha1.CallRecordingSpec{
					TenantRef: v1alpha1.TenantReference{Name: tc.tenant},
					CallSID:   good[0].callSID,
					SourceURL: tc.url,
				},
			}
			x.create(t, obj)
			minute.Reaches(t, tc.condition+" is True because of "+tc.reason, func(ctx context.Context) (bool, string) {
				if err := x.client.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
					return false, err.Error()
				}
				c := apimeta.FindStatusCondition(obj.Status.Conditions, tc.condition)
				return c != nil && c.Status == metav1.ConditionTrue &&
					c.Reason == tc.reason, fmt.Sprint(obj.Status.Conditions)
			})
		})
	}
	src.verify(t, x, good)
}

// TestRetry fails a recording for good (its credentials are refused), corrects the cause, and asks again by
// annotation.
func TestRetry(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(tenant, 1, 30_000)
	src.gone(recs[0], true)
	tenant.announce(t, recs)
	var obj *v1alpha1.CallRecording
	twoMinutes.Reaches(t, "the CallRecording is Failed", func(ctx context.Context) (bool, string) {
		items, err := tenant.callRecordings(ctx)
		if err != nil || len(items) != 1 {
			return false, fmt.Sprintf("%d CallRecordings, %v", len(items), err)
		}
		obj = &items[0]
		return obj.Status.Phase == v1alpha1.RecordingPhaseFailed, fmt.Sprintf(
			"%s: %s", obj.Status.Phase, obj.Status.LastError,
		)
	})
	src.gone(recs[0], false)
	patch := client.RawPatch(
		"application/merge-patch+json", []byte(`{"metadata":{"annotations":{"`+v1alpha1.AnnotationRetry+`":"1"}}}`),
	)
	if err := tenant.client.Patch(t.Context(), obj, patch); err != nil {
		t.Fatal(err)
	}
	minute.Reaches(t, "it is uploaded after the retry", func(ctx context.Context) (bool, string) {
		err := tenant.client.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		return err == nil && obj.Status.Phase == v1alpha1.RecordingPhaseUploaded &&
			obj.Status.LastHandledRetry == "1", fmt.Sprint(obj.Status)
	})
	src.verify(t, tenant, recs)
}
