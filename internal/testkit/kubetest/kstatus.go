package kubetest

import (
	"fmt"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
)

// CheckKStatus returns how kstatus, by which kubectl apply tools and GitOps controllers wait, reads an object otherwise
// than its conditions say.
func CheckKStatus(o conditions.Object) error {
	content, err := kruntime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return err
	}
	got, err := kstatus.Compute(&unstructured.Unstructured{Object: content})
	if err != nil {
		return err
	}
	if want := wantKStatus(o); got.Status != want {
		return fmt.Errorf("kstatus reads %s (%s), want %s", got.Status, got.Message, want)
	}
	return nil
}

func wantKStatus(o conditions.Object) kstatus.Status {
	ready := apimeta.FindStatusCondition(o.GetConditions(), v1alpha1.ConditionReady)
	switch {
	case o.GetDeletionTimestamp() != nil:
		return kstatus.TerminatingStatus
	case ready == nil, ready.ObservedGeneration != o.GetGeneration():
		return kstatus.InProgressStatus
	case apimeta.IsStatusConditionTrue(o.GetConditions(), v1alpha1.ConditionStalled):
		return kstatus.FailedStatus
	case apimeta.IsStatusConditionTrue(o.GetConditions(), v1alpha1.ConditionReady):
		return kstatus.CurrentStatus
	}
	return kstatus.InProgressStatus
}
