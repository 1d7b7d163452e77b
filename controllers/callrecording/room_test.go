package callrecording

import (
	"fmt"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// TestNamespaceIsFull applies more CallRecordings by hand than the namespace may have. The last one is held back, with
// a condition, until another one is deleted; those that were queued before go on.
func TestNamespaceIsFull(t *testing.T) {
	r := newRig(t)
	r.rec.MaxPerNamespace = 3
	r.tenant(t)
	reconcile := func(o *v1alpha1.CallRecording) (ctrl.Result, *metav1.Condition) {
		t.Helper()
		res, err := r.rec.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		return res, apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionStalled)
	}
	var list []*v1alpha1.CallRecording
	for i := range 4 {
		name := fmt.Sprint("by-hand-", i)
		o := &v1alpha1.CallRecording{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name},
			Spec: v1alpha1.CallRecordingSpec{
				TenantRef: v1alpha1.TenantReference{Name: "support"},
				CallSID:   name,
				SourceURL: "https://recordings.exotel.com/" + name + ".mp3",
			},
		}
		if err := r.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
		res, stalled := reconcile(o)
		switch held := stalled != nil && stalled.Reason == v1alpha1.ReasonTooManyCallRecordings; {
		case i < 3 && stalled != nil:
			t.Errorf("the CallRecording %d: %+v", i+1, stalled)
		case i == 3 && (!held || res.RequeueAfter < roomRetry):
			t.Errorf("one too many: %+v, %+v", res, stalled)
		}
	}
	if _, stalled := reconcile(list[0]); stalled != nil {
		t.Errorf("one that was queued before: %+v", stalled)
	}
	if err := r.Delete(t.Context(), list[1]); err != nil {
		t.Fatal(err)
	}
	if _, stalled := reconcile(list[3]); stalled != nil || list[3].Status.Phase != v1alpha1.RecordingPhasePending {
		t.Errorf("once there is room: %s, %+v", list[3].Status.Phase, stalled)
	}
}
