// Package reconcile is the frame of a reconcile. The controllers of Tenants and CallRecordings share it.
//
// A controller reads its object, begins a scope, runs steps over it, and finishes:
//
//	type scope struct {
//		reconcile.Scope[*v1alpha1.Tenant]
//		tenant *v1alpha1.Tenant // its status is what will be written
//		secret *corev1.Secret   // readSecret
//	}
//
//	s := &scope{Scope: reconcile.Begin(&tenant), tenant: &tenant}
//	err := reconcile.Run(ctx, s, r.readSecret, r.apply, r.publish)
//	return r.frame().Finish(ctx, &s.Scope, err)
//
// A step does one thing and records in the scope what later steps need. It changes the status of the object in memory
// and never writes it. It ends the reconcile with an error:
//
//   - Stalled: a person must change something. The object becomes Stalled.
//   - Retry: time may help. The object becomes Reconciling.
//   - Done: the conditions that the steps have set say all.
//   - Abandon: the object was deleted, or another writer changed it. Nothing is written.
//   - Any other error is a fault. It is logged, and the reconcile is repeated with a backoff.
//
// Finish writes the status with one patch, if it changed, and emits the controller's event after that. A controller
// writes only what its Owner names: a change of another controller's condition or field is an error, and nothing is
// written. The file owners.go has all owners. A new condition or field of a status needs one; a test reports what has
// none or two.
//
// A controller that writes its status in parts, or without the conditions of a reconcile, uses Run and a Writer alone.
package reconcile

import (
	"context"
	"errors"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/internal/conditions"
)

// Object is a custom resource with conditions.
type Object interface {
	client.Object
	conditions.Object
}

// Step is one phase of a reconcile over a scope.
type Step[S any] func(context.Context, S) error

// Run takes the steps in order. It returns the error of the first step that does not return nil.
func Run[S any](ctx context.Context, scope S, steps ...Step[S]) error {
	for _, step := range steps {
		if err := step(ctx, scope); err != nil {
			return err
		}
	}
	return nil
}

// Scope is what the frame knows of one reconcile. A controller embeds it in its own scope.
type Scope[T Object] struct {
	// Before is the object as it was read.
	Before T

	object T
	after  time.Duration
	faults []error
}

// Begin starts a reconcile. The status of the object is what Finish writes.
func Begin[T Object](object T) Scope[T] {
	return Scope[T]{Before: object.DeepCopyObject().(T), object: object}
}

// ComeBack has the object reconciled again after a time, at the latest. 0 asks for nothing.
func (s *Scope[T]) ComeBack(after time.Duration) { s.after = Sooner(s.after, after) }

// Fault records an error that does not end the reconcile. The reconcile is repeated with a backoff.
func (s *Scope[T]) Fault(err error) {
	if err != nil {
		s.faults = append(s.faults, err)
	}
}

// Result returns when the reconcile is repeated that ended with err, or the faults for which controller-runtime repeats
// it with a backoff.
func (s *Scope[T]) Result(err error) (ctrl.Result, error) {
	after := s.after
	if stop, ok := StopOf(err); ok {
		after = Sooner(after, stop.After)
		err = nil
	}
	if err = errors.Join(append([]error{err}, s.faults...)...); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// Sooner returns the shorter of two waits. A wait of 0 counts as none.
func Sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}
