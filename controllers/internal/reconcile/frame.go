package reconcile

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/conditions"
)

// maxNote is below the API's bound of 1024 bytes on the note of an event.
const maxNote = 900

// Event is an event about an object.
type Event struct {
	Type, Reason, Action, Note string
}

// Emit emits an event.
func (e Event) Emit(recorder events.EventRecorder, about Object) {
	recorder.Eventf(about, nil, e.Type, e.Reason, e.Action, "%s", bounded.Text(e.Note, maxNote))
}

// SameState reports whether two conditions exist and differ in their messages at most.
func SameState(was, is *metav1.Condition) bool {
	return was != nil && is != nil && was.Status == is.Status && was.Reason == is.Reason
}

// Frame is what all reconciles of a controller have in common.
type Frame[T Object] struct {
	Writer   Writer
	Recorder events.EventRecorder
	// Fault returns the reason and message of the condition Reconciling for a fault. Without a reason the conditions
	// stay.
	Fault func(error) (reason, message string)
	// Event returns the event about a status that was written; nil if the change matters to nobody.
	Event func(before, now T) *Event
	// Stale is when an object is reconciled again that has changed since it was read. 0: the controller watches every
	// change, so the object is in its queue.
	Stale time.Duration
}

// Finish ends a reconcile whose steps have returned err. It sets the conditions that err asks for, writes the status
// if it changed, and emits the event.
func (f Frame[T]) Finish(ctx context.Context, s *Scope[T], err error) (ctrl.Result, error) {
	stop, stopped := StopOf(err)
	if stopped && stop.Abandons() {
		return s.Result(err)
	}
	switch {
	case stopped:
		stop.mark(s.object)
	case err != nil && f.Fault != nil:
		if reason, message := f.Fault(err); reason != "" {
			conditions.MarkReconciling(s.object, reason, message)
		}
	}
	result, err := s.Result(err)
	answer := s.object.DeepCopyObject().(T)
	written, writeErr := f.Writer.Write(ctx, s.Before, answer)
	switch {
	case apierrors.IsConflict(writeErr) && err == nil && f.Stale > 0:
		return ctrl.Result{RequeueAfter: f.Stale}, nil
	case writeErr != nil && !apierrors.IsConflict(writeErr):
		return result, errors.Join(err, writeErr)
	case written && f.Event != nil:
		if event := f.Event(s.Before, s.object); event != nil {
			event.Emit(f.Recorder, s.object)
		}
	}
	return result, err
}
