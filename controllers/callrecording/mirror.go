package callrecording

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/store"
)

// mirror copies the row and the facts of its call into the status.
func (r *Reconciler) mirror(ctx context.Context, s *scope) error {
	facts, err := r.Store.CallFacts(ctx, s.row.Tenant, s.row.CallSID)
	if err != nil {
		return err
	}
	mirror(s.obj, s.row)
	s.obj.Status.Call = callOutcome(facts)
	return nil
}

// mirror sets a CallRecording's status from its row. It reads nothing else.
func mirror(o *v1alpha1.CallRecording, row store.Recording) {
	st := &o.Status
	st.Attempts = ptr.To(int32(min(row.Attempts, 1<<20))) //nolint:gosec // bounded here
	st.LastError = bounded.Text(row.LastError, 1000)
	st.NextAttemptTime = nil
	st.FinishedTime = nil
	st.Object = nil
	switch row.State {
	case store.StateUploaded:
		uploaded(o, row)
	case store.StateFailed:
		st.Phase = v1alpha1.RecordingPhaseFailed
		st.FinishedTime = ptr.To(metav1.NewTime(row.FinishedAt).Rfc3339Copy())
		conditions.MarkStalled(
			o, v1alpha1.ReasonFailed,
			fmt.Sprintf("%s; correct it and set the annotation %s to a new value to try again",
				orElse(row.LastError, "no reason was recorded"), v1alpha1.AnnotationRetry),
		)
	case store.StateLeased:
		st.Phase = v1alpha1.RecordingPhaseUploading
		conditions.MarkReconciling(o, v1alpha1.ReasonUploading, "an upload pod is working on it")
	default:
		pending(o, row)
	}
}

// uploaded sets the status of an uploaded recording, with the object that holds it.
func uploaded(o *v1alpha1.CallRecording, row store.Recording) {
	o.Status.Phase = v1alpha1.RecordingPhaseUploaded
	o.Status.LastError = ""
	o.Status.FinishedTime = ptr.To(metav1.NewTime(row.FinishedAt).Rfc3339Copy())
	o.Status.Object = &v1alpha1.ObjectStatus{
		Bucket: row.Bucket,
		Key:    row.Key,
		Size:   ptr.To(row.Size),
		SHA256: row.SHA256,
	}
	conditions.MarkReady(o, v1alpha1.ReasonUploaded, fmt.Sprintf("uploaded to %s/%s and verified", row.Bucket, row.Key))
}

// pending sets the status of a recording that waits: for its first attempt, or after a failed one.
func pending(o *v1alpha1.CallRecording, row store.Recording) {
	if row.LastError == "" {
		o.Status.Phase = v1alpha1.RecordingPhasePending
		conditions.MarkReconciling(o, v1alpha1.ReasonQueued, "waits for an upload pod")
		return
	}
	o.Status.Phase = v1alpha1.RecordingPhaseWaiting
	o.Status.NextAttemptTime = ptr.To(metav1.NewTime(row.AvailableAt).Rfc3339Copy())
	conditions.MarkReconciling(
		o,
		v1alpha1.ReasonWaiting,
		fmt.Sprintf("%s; tried again at %s", row.LastError, row.AvailableAt.UTC().Format(time.RFC3339)),
	)
}

// maxLegs is how many legs a CallRecording shows, the last ones. The row has them all.
const maxLegs = 16

// callOutcome is what a CallRecording shows of its call; nil while nothing is known.
func callOutcome(f store.CallFacts) *v1alpha1.CallOutcome {
	if f.Outcome == store.CallUnknown && len(f.Legs) == 0 {
		return nil
	}
	c := &v1alpha1.CallOutcome{Outcome: f.Outcome.String()}
	for _, l := range f.Legs[max(0, len(f.Legs)-maxLegs):] {
		c.Legs = append(c.Legs, callLeg(l))
	}
	return c
}

// callLeg returns a leg as the status shows it.
func callLeg(l store.Leg) v1alpha1.CallLeg {
	leg := v1alpha1.CallLeg{Kind: string(l.Kind), Number: l.Number, Agent: l.Agent, Result: l.Presence.String()}
	if l.Kind != store.LegAgent {
		leg.Result = l.State.String()
		leg.OnCallSeconds = ptr.To(int32(min(l.Seconds, 1<<20))) //nolint:gosec // bounded here
	}
	if !l.At.IsZero() {
		leg.ReportedTime = ptr.To(metav1.NewTime(l.At).Rfc3339Copy())
	}
	return leg
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// cut shortens s to at most n bytes, at the end of a character: half of one would come back from the API server as another.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
