//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// pods by label, in a namespace.
func pods(ctx context.Context, c client.Client, ns string, labels client.MatchingLabels) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := c.List(ctx, &list, client.InNamespace(ns), labels)
	return list.Items, err
}

func uploadPodsOf(x *tenant) client.MatchingLabels {
	return client.MatchingLabels{
		v1alpha1.LabelComponent:       "upload",
		v1alpha1.LabelTenant:          x.name,
		v1alpha1.LabelTenantNamespace: x.ns,
	}
}

// crash sends SIGKILL to a pod's process, which a deletion never does at once: nothing is handed back, no file is closed.
// The process is found on this machine by the pod's control group, on either kind of cluster.
func crash(t *testing.T, p *corev1.Pod) {
	t.Helper()
	uid := string(p.UID)
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		text, err := os.ReadFile(g)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), "_", "-"), uid) {
			continue
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(g), "cmdline"))
		if err != nil || !strings.Contains(string(args), "caly") {
			continue // the pod's pause container
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(g)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill process %d of pod %s: %v", pid, p.Name, err)
		}
		return
	}
	t.Fatalf("no process of pod %s runs on this machine", p.Name)
}

func kill(t *testing.T, c client.Client, p *corev1.Pod) {
	t.Helper()
	if err := c.Delete(t.Context(), p, client.GracePeriodSeconds(0)); err != nil && !apierrors.IsNotFound(err) {
		t.Fatalf("kill pod %s: %v", p.Name, err)
	}
}

// TestUploadPodKilled kills an upload pod while it is in the middle of its files: all of them arrive, once. Deleted, it hands
// its leases back; crashed, they run out.
func TestUploadPodKilled(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *tenant, *corev1.Pod){
		"deleted": func(t *testing.T, x *tenant, p *corev1.Pod) { kill(t, x.client, p) },
		"crashed": func(t *testing.T, _ *tenant, p *corev1.Pod) { crash(t, p) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			uploadPodEnds(t, end)
		})
	}
}

func uploadPodEnds(t *testing.T, end func(*testing.T, *tenant, *corev1.Pod)) {
	t.Helper()
	const calls = 4
	src := newSource(t)
	x := newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(x, calls, 2_000_000)
	src.slow(recs, 200_000) // ten seconds a file
	x.announce(t, recs)
	var victim corev1.Pod
	minute.Reaches(t, "an upload pod is in the middle of a file", func(ctx context.Context) (bool, string) {
		list, err := pods(ctx, x.client, uploadNamespace, uploadPodsOf(x))
		if err != nil || len(list) == 0 {
			return false, fmt.Sprintf("%d pods, %v", len(list), err)
		}
		victim = list[0]
		return src.bytesServed() > 300_000, fmt.Sprintf("%d bytes served", src.bytesServed())
	})
	end(t, x, &victim)
	src.slow(recs, 0)
	x.waitUploaded(t, calls, 4*time.Minute)
	src.verify(t, x, recs)
}

// TestOperatorKilled kills the operator while events come in: nothing is lost and nothing is done twice.
func TestOperatorKilled(t *testing.T) {
	const calls = 20
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(tenant, calls, 20_000)
	for i, r := range recs {
		tenant.announce(t, []announced{r})
		if i%7 == 3 {
			kill(t, tenant.client, tenant.operator(t))
		}
	}
	tenant.waitUploaded(t, calls, 3*time.Minute)
	src.verify(t, tenant, recs)
}

// operator is its pod. For a moment after the last one was killed there is none.
func (x *tenant) operator(t *testing.T) (pod *corev1.Pod) {
	t.Helper()
	halfMinute.Reaches(t, "there is an operator's pod", func(ctx context.Context) (bool, string) {
		list, err := pods(ctx, x.client, releaseNamespace, client.MatchingLabels{v1alpha1.LabelComponent: "operator"})
		if err != nil || len(list) == 0 {
			return false, fmt.Sprintf("%d pods, %v", len(list), err)
		}
		pod = &list[0]
		return true, ""
	})
	return pod
}

// TestStorageOutage cuts the bucket off while recordings come in, and gives it back.
func TestStorageOutage(t *testing.T) {
	const calls = 6
	proxy := newProxy(t, strings.TrimPrefix(shared.s3URL, "http://"))
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url, endpoint: "http://" + proxy.addr})
	recs := src.recordings(tenant, calls, 50_000)
	proxy.cut(true)
	tenant.announce(t, recs)
	time.Sleep(15 * time.Second)
	if _, u, f, err := tenant.counts(t.Context()); err != nil || u+f != 0 {
		t.Fatalf("while the store is away: %d uploaded, %d failed (%v); want none of either", u, f, err)
	}
	proxy.cut(false)
	tenant.waitUploaded(t, calls, 4*time.Minute)
	src.verify(t, tenant, recs)
}

// TestRotation replaces the webhook's secret under load in the three steps of a rotation; no good event is refused.
func TestRotation(t *testing.T) {
	src := newSource(t)
	tenant := newTenant(t, tenantOptions{source: src.url})
	var secret atomic.Value
	secret.Store(tenant.secret)
	var sent atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	for worker := range 4 {
		group.Go(func() error { return tenant.sendUntil(ctx, worker, &secret, &sent) })
	}
	next := randomHex(16)
	tenant.rotate(t, map[string][]byte{"current": []byte(tenant.secret), "next": []byte(next)})
	tenant.waitAccepted(t, next)
	secret.Store(next)
	time.Sleep(time.Second) // those in flight still carry the old one
	tenant.rotate(t, map[string][]byte{"next": []byte(next)})
	halfMinute.Reaches(t, "the old secret is refused", func(ctx context.Context) (bool, string) {
		code, err := tenant.post(ctx, tenant.statusURL(), tenant.secret, announced{callSID: randomHex(16)}.terminal())
		return err == nil && code == 401, fmt.Sprint(code, err)
	})
	time.Sleep(time.Second)
	stop()
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if sent.Load() < 100 {
		t.Errorf("only %d events were sent: too few to show anything", sent.Load())
	}
}

// sendUntil sends good events, one after another, until told to stop or one is refused.
func (x *tenant) sendUntil(ctx context.Context, worker int, secret *atomic.Value, sent *atomic.Int64) error {
	for i := 0; ctx.Err() == nil; i++ {
		sid := fmt.Sprintf("%s%d%06d", x.ns[4:], worker, i)
		code, err := x.post(ctx, x.statusURL(), secret.Load().(string), announced{callSID: sid}.terminal())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || code != 200 {
			return fmt.Errorf("good event %s was answered %d, %w", sid, code, err)
		}
		sent.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func (x *tenant) rotate(t *testing.T, data map[string][]byte) {
	t.Helper()
	var s corev1.Secret
	if err := x.client.Get(t.Context(), client.ObjectKey{Namespace: x.ns, Name: "webhook"}, &s); err != nil {
		t.Fatal(err)
	}
	s.Data = data
	if err := x.client.Update(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
}

func (x *tenant) waitAccepted(t *testing.T, secret string) {
	t.Helper()
	start := time.Now()
	halfMinute.Reaches(t, "the new secret is live", func(ctx context.Context) (bool, string) {
		code, err := x.post(ctx, x.statusURL(), secret, announced{callSID: randomHex(16)}.terminal())
		return err == nil && code == 200, fmt.Sprint(code, err)
	})
	t.Logf("the new secret was live after %s", time.Since(start).Round(time.Millisecond))
}
