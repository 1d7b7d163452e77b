// Package conditions keeps the contract of Caly's conditions: Ready is always there once an object was looked at,
// Reconciling and Stalled only while they are true, and never both.
package conditions

import (
	"fmt"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/bounded"
)

// Object has conditions.
type Object interface {
	metav1.Object
	GetConditions() []metav1.Condition
	SetConditions([]metav1.Condition)
	SetObservedGeneration(int64)
}

// maxMessage is the API's own bound on a condition's message.
const maxMessage = 32768

// Set sets one condition, for the object's present generation.
func Set(o Object, kind string, status metav1.ConditionStatus, reason, message string) {
	list := o.GetConditions()
	apimeta.SetStatusCondition(&list, metav1.Condition{
		Type:               kind,
		Status:             status,
		Reason:             reason,
		Message:            bounded.Text(message, maxMessage),
		ObservedGeneration: o.GetGeneration(),
	})
	o.SetConditions(list)
}

// Delete removes one condition.
func Delete(o Object, kind string) {
	list := o.GetConditions()
	apimeta.RemoveStatusCondition(&list, kind)
	o.SetConditions(list)
}

// SetUploadsHealthy says that a Tenant's recordings are uploaded.
func SetUploadsHealthy(o Object) {
	Set(o, v1alpha1.ConditionUploadsHealthy, metav1.ConditionTrue, v1alpha1.ReasonUploadsHealthy,
		"no recording is overdue")
}

// MarkReady says that the object is what its spec asks for. Like the other marks it sets status.observedGeneration: a
// client such as kstatus takes a Stalled object of an unobserved generation for one that is in progress.
func MarkReady(o Object, reason, message string) {
	o.SetObservedGeneration(o.GetGeneration())
	Delete(o, v1alpha1.ConditionReconciling)
	Delete(o, v1alpha1.ConditionStalled)
	Set(o, v1alpha1.ConditionReady, metav1.ConditionTrue, reason, message)
}

// MarkReconciling says that work is under way or will be tried again.
func MarkReconciling(o Object, reason, message string) {
	o.SetObservedGeneration(o.GetGeneration())
	Delete(o, v1alpha1.ConditionStalled)
	Set(o, v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
	Set(o, v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
}

// MarkStalled says that a person must change something.
func MarkStalled(o Object, reason, message string) {
	o.SetObservedGeneration(o.GetGeneration())
	Delete(o, v1alpha1.ConditionReconciling)
	Set(o, v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, message)
	Set(o, v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
}

// Check returns how an object breaks the contract, for tests.
func Check(o Object) error {
	list := o.GetConditions()
	ready := apimeta.FindStatusCondition(list, v1alpha1.ConditionReady)
	if ready == nil {
		return fmt.Errorf("%s has no Ready condition", o.GetName())
	}
	reconciling := apimeta.FindStatusCondition(list, v1alpha1.ConditionReconciling)
	stalled := apimeta.FindStatusCondition(list, v1alpha1.ConditionStalled)
	for _, c := range []*metav1.Condition{reconciling, stalled} {
		if c != nil && (c.Status != metav1.ConditionTrue || ready.Status == metav1.ConditionTrue) {
			return fmt.Errorf(
				"%s is %s next to Ready %s: it must be True or absent, and absent when Ready",
				c.Type,
				c.Status,
				ready.Status,
			)
		}
	}
	if reconciling != nil && stalled != nil {
		return fmt.Errorf("%s is both Reconciling and Stalled", o.GetName())
	}
	for _, c := range list {
		if c.Reason == "" || c.Message == "" || c.ObservedGeneration > o.GetGeneration() {
			return fmt.Errorf("condition %s lacks a reason or a message, or is of a generation to come", c.Type)
		}
	}
	return nil
}
