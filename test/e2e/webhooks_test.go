//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// change patches the Tenant's spec.
func (x *tenant) change(t *testing.T, spec string) {
	t.Helper()
	obj := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Namespace: x.ns, Name: x.name}}
	if err := x.client.Patch(
		t.Context(), obj, client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+spec+`}`)),
	); err != nil {
		t.Fatal(err)
	}
}

// TestVerifiers sends one call in each way that a Tenant with a token, Basic authentication and a signature may be reached, the route
// that is shared by all tenants included; and each with a wrong secret.
func TestVerifiers(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	token := randomHex(16)
	password := randomHex(16)
	tenant.secretOf(t, "token", map[string]string{"current": token})
	tenant.secretOf(t, "users", map[string]string{"exotel": password})
	tenant.change(t, `{"webhooks":{"token":{"secretRef":{"name":"token"}},"basicAuth":{"secretRef":{"name":"users"}}}}`)
	withUser := func(user string) string { return strings.Replace(tenant.statusURL(), "://", "://"+user+"@", 1) }
	common := tenant.webhooks + "/webhooks/exotel/status"
	recs := src.recordings(tenant, 5, 20_000)
	live := func(ctx context.Context) (bool, string) {
		code, err := tenant.post(ctx, tenant.statusURL()+"/"+token, "", recs[0].terminal())
		return code == http.StatusOK, fmt.Sprint(code, err)
	}
	halfMinute.Reaches(t, "the token is live", live)
	for name, tc := range map[string]struct {
		url, secret, body string
		want              int
	}{
		"token in the query":         {tenant.statusURL() + "?token=" + token, "", recs[1].terminal(), http.StatusOK},
		"basic":                      {withUser("exotel:" + password), "", recs[2].terminal(), http.StatusOK},
		"shared, signed":             {common, tenant.secret, recs[3].terminal() + "&AccountSid=acc" + tenant.ns[4:], http.StatusOK},
		"shared, token":              {common + "/" + token, "", recs[4].terminal() + "&AccountSid=acc" + tenant.ns[4:], http.StatusOK},
		"wrong token":                {tenant.statusURL() + "/" + randomHex(16), "", recs[0].terminal(), http.StatusUnauthorized},
		"wrong password":             {withUser("exotel:" + token), "", recs[0].terminal(), http.StatusUnauthorized},
		"shared, of another account": {common, tenant.secret, recs[0].terminal() + "&AccountSid=nobody", http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			if code, err := tenant.post(t.Context(), tc.url, tc.secret, tc.body); err != nil || code != tc.want {
				t.Errorf("answered %d, %v; want %d", code, err, tc.want)
			}
		})
	}
	tenant.waitUploaded(t, len(recs), time.Minute)
	src.verify(t, tenant, recs)
}

// TestRefusalIsCounted sends a wrong token: the answer tells nothing of it, and the data plane's metric has the reason.
func TestRefusalIsCounted(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	tenant.secretOf(t, "token", map[string]string{"current": randomHex(16)})
	tenant.change(t, `{"webhooks":{"token":{"secretRef":{"name":"token"}},"signature":null}}`)
	before := tenant.refused(t, "wrong_token")
	halfMinute.Reaches(t, "a wrong token is counted", func(ctx context.Context) (bool, string) {
		code, err := tenant.post(
			ctx, tenant.statusURL()+"/"+randomHex(16), "", src.recordings(tenant, 1, 1000)[0].terminal(),
		)
		if code != http.StatusUnauthorized {
			t.Fatalf("a wrong token is answered %d, %v", code, err)
		}
		now := tenant.refused(t, "wrong_token")
		return now > before, fmt.Sprintf("%d before, %d now", before, now)
	})
}

// metricsOf a data-plane pod, whose internal port is reached through the API server.
func (e *env) metricsOf(ctx context.Context, p *corev1.Pod) ([]byte, error) {
	return e.kube.CoreV1().Pods(p.Namespace).ProxyGet("http", p.Name, "8081", "/metrics", nil).DoRaw(ctx)
}

// refused is how often all data-plane pods refused a webhook for a reason.
func (e *env) refused(t *testing.T, reason string) (total int) {
	t.Helper()
	list, err := pods(
		t.Context(), e.client, releaseNamespace, client.MatchingLabels{v1alpha1.LabelComponent: "dataplane"},
	)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d data-plane pods, %v", len(list), err)
	}
	series := regexp.MustCompile(`(?m)^caly_webhook_verification_failures_total\{reason="` + reason + `"\} (\d+)$`)
	for _, p := range list {
		if p.DeletionTimestamp != nil {
			continue // it gets no webhooks any more, and may be gone in the next moment
		}
		text, err := e.metricsOf(t.Context(), &p)
		if err != nil {
			t.Fatalf("the metrics of %s: %v", p.Name, err)
		}
		found := series.FindSubmatch(text)
		if found == nil {
			t.Fatalf("the metrics of %s have no refusals for %s", p.Name, reason)
		}
		n, _ := strconv.Atoi(string(found[1])) // digits
		total += n
	}
	return total
}

// TestPartialEventIsReplayed has a recording rejected, finds the partial event, corrects the Tenant, and replays the
// event.
func TestPartialEventIsReplayed(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	host := strings.TrimPrefix(src.url, "http://")
	recs := src.recordings(tenant, 1, 20_000)
	elsewhere := announced{
		callSID:   recs[0].callSID,
		sourceURL: strings.Replace(recs[0].sourceURL, host, "recordings.example.org", 1),
	}
	tenant.announce(t, []announced{elsewhere})
	if q, u, f, err := tenant.counts(t.Context()); err != nil || q != 0 || u != 0 || f != 1 {
		t.Errorf("%d recordings queued, %d uploaded, %d failed, %v; want one that failed", q, u, f, err)
	}
	var list struct {
		Events []struct {
			ID         int64
			DeadReason string
			Unread     []struct{ Field, Reason string }
		}
	}
	out := tenant.caly(t, corev1.PodSucceeded, "events", "list", "--partial", "--tenant="+tenant.id(), "--output=json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Events) != 1 {
		t.Fatalf("caly events list says %s (%v), want one event", out, err)
	}
	e := list.Events[0]
	if e.DeadReason != "" || len(e.Unread) != 1 || e.Unread[0].Reason != "rejected" {
		t.Fatalf("caly events list says %s, want an applied event whose recording is rejected", out)
	}
	tenant.change(t, `{"recordings":{"allowedSourceHosts":["`+host+`","recordings.example.org"]}}`)
	out = tenant.caly(t, corev1.PodSucceeded, "events", "replay", fmt.Sprint(e.ID))
	if !strings.Contains(out, "applied") {
		t.Errorf("caly events replay says %s, want applied", out)
	}
	out = tenant.caly(t, corev1.PodSucceeded, "events", "list", "--partial", "--tenant="+tenant.id())
	if strings.Contains(out, "rejected") {
		t.Errorf("after the replay caly events list says %s", out)
	}
	if q, u, f, err := tenant.counts(t.Context()); err != nil || q+u+f != 1 {
		t.Errorf("the event left %d recordings, %v; want 1", q+u+f, err)
	}
}

// caly runs the operator's binary in a pod like the operator's, and returns what it prints.
func (x *tenant) caly(t *testing.T, want corev1.PodPhase, args ...string) string {
	t.Helper()
	deployment, err := x.kube.AppsV1().Deployments(
		releaseNamespace,
	).Get(t.Context(), "caly-operator", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: releaseNamespace, Name: "e2e-" + randomHex(4)},
		Spec:       deployment.Spec.Template.Spec,
	}
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	container := &pod.Spec.Containers[0]
	container.Args = args
	container.Ports = nil
	container.StartupProbe = nil
	container.LivenessProbe = nil
	container.ReadinessProbe = nil
	x.create(t, pod)
	t.Cleanup(func() { _ = x.client.Delete(context.Background(), pod) })
	minute.Reaches(t, "caly "+strings.Join(args, " ")+" has ended", func(ctx context.Context) (bool, string) {
		err := x.client.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return err == nil &&
				(pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed), fmt.Sprint(
				pod.Status.Phase, err,
			)
	})
	out, err := x.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil || pod.Status.Phase != want {
		t.Fatalf("caly %s ended as %s, want %s (%v): %s", strings.Join(args, " "), pod.Status.Phase, want, err, out)
	}
	return string(out)
}
