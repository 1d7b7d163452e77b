package uploadjob

import (
	"fmt"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
)

const (
	// overdueAfter is how long a recording may wait for an upload pod, or for the end of what is wrong with it alone.
	overdueAfter = 10 * time.Minute
	// calm is how long a Tenant whose pods did not end stays unhealthy after the last of them: each of its Jobs
	// uploads recordings, and then hangs.
	calm = 2 * time.Minute
	// maxMessage bounds the words of other programs in the condition.
	maxMessage = 1024
)

// trouble is why recordings are not uploaded. The zero value means that they are.
type trouble struct {
	reason, message string
	// at is when it happened, if a later upload shows that it has passed. Zero: it lasts until it is not found any
	// more.
	at time.Time
}

// passed reports whether a recording was uploaded after the trouble.
func (t trouble) passed(s store.UploadState) bool { return !t.at.IsZero() && s.UploadedAt.After(t.at) }

// ofOneRecording are the codes of upload pods that say nothing about other recordings.
var ofOneRecording = map[string]bool{
	reason.SourceNotReady:    true,
	reason.SourceUnavailable: true,
	reason.SourceRefused:     true,
	reason.SourceExpired:     true,
	reason.SourceChanged:     true,
	reason.SourceBroken:      true,
	reason.SourceTooLarge:    true,
	reason.KeyInvalid:        true,
	reason.LeaseExpired:      true,
}

// ofQueue returns what the queue says is wrong. What concerns one recording counts once it is overdue and nothing else
// was uploaded since.
func ofQueue(s store.UploadState, now time.Time) trouble {
	t := trouble{reason: v1alpha1.ReasonUploadsFailing, at: s.FailedAt}
	overdue := now.Sub(s.FailedQueued) > overdueAfter
	switch {
	case !s.FailedAt.IsZero() && !t.passed(s) && (overdue || !ofOneRecording[s.FailedCode]):
		t.message = fmt.Sprintf("the last upload failed (%s): %s", s.FailedCode, s.FailedError)
		return t
	case !s.DueSince.IsZero() && now.Sub(s.DueSince) > overdueAfter:
		return trouble{
			reason: v1alpha1.ReasonUploadsOverdue,
			message: fmt.Sprintf("a recording has waited since %s "+
				"for an upload pod to take it", s.DueSince.UTC().Format(time.RFC3339)),
		}
	}
	return trouble{}
}

// health is what is known of a tenant's uploads when its condition is written.
type health struct {
	wanted     bool // the Tenant is neither suspended nor being deleted, and was compiled
	unfinished bool // recordings wait or are being uploaded
	trouble    trouble
	state      store.UploadState
	hung       time.Time // when pods that do not end were last seen
}

// setCondition sets or removes UploadsHealthy. A condition that is False becomes True only when a recording was
// uploaded since, or none is left: that pods start again proves nothing. The tenant controller writes the first
// True.
func (h health) setCondition(t *v1alpha1.Tenant, now time.Time) {
	const kind = v1alpha1.ConditionUploadsHealthy
	current := apimeta.FindStatusCondition(t.Status.Conditions, kind)
	switch {
	case !h.wanted:
		conditions.Delete(t, kind)
	case h.trouble.reason != "":
		conditions.Set(t, kind, metav1.ConditionFalse, h.trouble.reason, bounded.Text(h.trouble.message, maxMessage))
	case current == nil || current.Status == metav1.ConditionTrue:
	case h.unfinished && !h.state.UploadedAt.After(current.LastTransitionTime.Time), now.Sub(h.hung) < calm:
	default:
		conditions.SetUploadsHealthy(t)
	}
}
