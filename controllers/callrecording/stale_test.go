package callrecording

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/caly-dev/caly/api/v1alpha1"
)

func updateOf(was, is client.Object) event.UpdateEvent {
	return event.UpdateEvent{ObjectOld: was, ObjectNew: is}
}

// remember lets the reconciler see a CallRecording as it was, like a cache that lags.
func (r *subject) remember(old *v1alpha1.CallRecording) {
	funcs := r.Writes.Funcs()
	funcs.Get = func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		if into, ok := o.(*v1alpha1.CallRecording); ok {
			old.DeepCopyInto(into)
			return nil
		}
		return c.Get(ctx, key, o, opts...)
	}
	r.rec.Client = interceptor.NewClient(r.Client, funcs)
}

// TestStaleCache verifies that a reconcile of a stale object overwrites nothing newer and repeats no event.
func TestStaleCache(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	pods := rig.pods(t)
	callRecording := rig.apply(t, "by-hand")
	old, _ := rig.reconcile(t, callRecording)
	pods.fail(t)
	now, _ := rig.reconcile(t, callRecording)
	rig.told()
	rig.remember(old)
	if _, err := rig.rec.Reconcile(
		t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(callRecording)},
	); err != nil {
		t.Errorf("a lagging cache is an error: %v", err)
	}
	if diff := cmp.Diff(now, rig.read(t, callRecording)); diff != "" {
		t.Errorf("it was written over (-want +got):\n%s", diff)
	}
	if got := rig.told(); len(got) != 0 {
		t.Errorf("told again: %v", got)
	}
}

// TestStaleCacheDeletesNothing verifies that a CallRecording that asks for a retry is not deleted, though a stale cache
// shows it as expired.
func TestStaleCacheDeletesNothing(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support", func(o *v1alpha1.Tenant) { o.Spec.Recordings.TTLAfterFinished = nil })
	callRecording := rig.apply(t, "by-hand")
	rig.reconcile(t, callRecording)
	rig.pods(t).fail(t)
	old, _ := rig.reconcile(t, callRecording)
	old = old.DeepCopy()
	old.CreationTimestamp.Time = old.CreationTimestamp.AddDate(0, -1, 0)
	old.Status.FinishedTime = &old.CreationTimestamp
	rig.annotate(t, rig.read(t, callRecording), "again")
	rig.remember(old)
	if _, err := rig.rec.Reconcile(
		t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(callRecording)},
	); err != nil {
		t.Errorf("a lagging cache is an error: %v", err)
	}
	if rig.read(t, callRecording) == nil {
		t.Error("it was deleted with a retry that nobody had looked at")
	}
}

// TestEventsAreCutAtACharacter verifies that a long message is cut at a character of any language, and at the same one
// each time.
func TestEventsAreCutAtACharacter(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	pods := rig.pods(t)
	callRecording := rig.apply(t, "by-hand")
	rig.reconcile(t, callRecording)
	if err := pods.db.Fail(t.Context(), "pod", pods.claim(t), "gone", "x"+strings.Repeat("é", 900)); err != nil {
		t.Fatal(err)
	}
	rig.reconcile(t, callRecording) // twice, and no third write: what is read back is what was written
	want := []string{"Warning UploadFailed x" + strings.Repeat("é", 447) + " ..."}
	if diff := cmp.Diff(want, rig.told()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
