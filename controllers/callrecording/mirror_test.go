package callrecording

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/store"
)

var (
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC)
	sha256 = strings.Repeat("a", 64)
)

// shown is what mirror makes of a row, without the conditions' messages.
type shown struct {
	Phase             v1alpha1.RecordingPhase
	Reason            string
	Kind              string // the condition next to Ready, if any
	Message           string // of Ready
	Attempts          int32
	LastError         string
	NextAttempt, Done *metav1.Time
	Object            *v1alpha1.ObjectStatus
}

func shownOf(o *v1alpha1.CallRecording) shown {
	ready := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
	s := shown{
		Phase:       o.Status.Phase,
		Attempts:    ptr.Deref(o.Status.Attempts, -1),
		LastError:   o.Status.LastError,
		NextAttempt: o.Status.NextAttemptTime,
		Done:        o.Status.FinishedTime,
		Object:      o.Status.Object,
		Reason:      ready.Reason,
		Message:     ready.Message,
	}
	for _, c := range o.Status.Conditions {
		if c.Type != v1alpha1.ConditionReady {
			s.Kind += c.Type
		}
	}
	return s
}

func rows() map[string]store.Recording {
	return map[string]store.Recording{
		"queued": {State: store.StatePending, AvailableAt: noon},
		"leased": {State: store.StateLeased},
		"waiting": {
			State:         store.StatePending,
			Attempts:      2,
			LastErrorCode: "SourceUnavailable",
			LastError:     "the source says 503",
			AvailableAt:   noon,
		},
		"leased for a second time": {State: store.StateLeased, Attempts: 2, LastError: "the source says 503"},
		"uploaded": {
			State:      store.StateUploaded,
			Attempts:   1,
			Bucket:     "b",
			Key:        "k",
			Size:       7,
			SHA256:     sha256,
			FinishedAt: noon,
		},
		"uploaded after an error": {
			State:      store.StateUploaded,
			Attempts:   3,
			Bucket:     "b",
			Key:        "k",
			SHA256:     sha256,
			FinishedAt: noon,
			LastError:  "the source says 503",
		},
		"failed": {
			State:         store.StateFailed,
			Attempts:      12,
			LastErrorCode: "gone",
			LastError:     "the source says 410",
			FinishedAt:    noon,
		},
		"failed without a reason": {State: store.StateFailed, FinishedAt: noon},
		"more attempts than fit":  {State: store.StateLeased, Attempts: 1 << 40},
		"an error that is a novel": {
			State:      store.StateFailed,
			FinishedAt: noon,
			LastError:  strings.Repeat("é", 1000) + " ...",
		},
		"an error cut at half an é": {
			State:       store.StatePending,
			AvailableAt: noon,
			LastError:   "x" + strings.Repeat("é", 1000),
		},
	}
}

func TestMirror(t *testing.T) {
	second := ptr.To(metav1.NewTime(noon.Truncate(time.Second)))
	const advice = "; correct it and set the annotation voice.caly.dev/retry to a new value to try again"
	longest := strings.Repeat("é", 498) + " ..."
	half := "x" + strings.Repeat("é", 497) + " ..."
	object := func(size int64) *v1alpha1.ObjectStatus {
		return &v1alpha1.ObjectStatus{Bucket: "b", Key: "k", Size: &size, SHA256: sha256}
	}
	want := map[string]shown{
		"queued": {Phase: "Pending", Reason: "Queued", Kind: "Reconciling", Message: "waits for an upload pod"},
		"leased": {
			Phase:   "Uploading",
			Reason:  "Uploading",
			Kind:    "Reconciling",
			Message: "an upload pod is working on it",
		},
		"waiting": {
			Phase:       "Waiting",
			Reason:      "WaitingForRetry",
			Kind:        "Reconciling",
			Attempts:    2,
			LastError:   "the source says 503",
			NextAttempt: second,
			Message:     "the source says 503; tried again at 2026-03-01T12:00:00Z",
		},
		"leased for a second time": {
			Phase:     "Uploading",
			Reason:    "Uploading",
			Kind:      "Reconciling",
			Attempts:  2,
			LastError: "the source says 503",
			Message:   "an upload pod is working on it",
		},
		"uploaded": {
			Phase:    "Uploaded",
			Reason:   "Uploaded",
			Attempts: 1,
			Done:     second,
			Object:   object(7),
			Message:  "uploaded to b/k and verified",
		},
		"uploaded after an error": {
			Phase:    "Uploaded",
			Reason:   "Uploaded",
			Attempts: 3,
			Done:     second,
			Object:   object(0),
			Message:  "uploaded to b/k and verified",
		},
		"failed": {
			Phase:     "Failed",
			Reason:    "UploadFailed",
			Kind:      "Stalled",
			Attempts:  12,
			LastError: "the source says 410",
			Done:      second,
			Message:   "the source says 410" + advice,
		},
		"failed without a reason": {
			Phase:   "Failed",
			Reason:  "UploadFailed",
			Kind:    "Stalled",
			Done:    second,
			Message: "no reason was recorded" + advice,
		},
		"more attempts than fit": {
			Phase:    "Uploading",
			Reason:   "Uploading",
			Kind:     "Reconciling",
			Attempts: 1 << 20,
			Message:  "an upload pod is working on it",
		},
		"an error that is a novel": {
			Phase:     "Failed",
			Reason:    "UploadFailed",
			Kind:      "Stalled",
			Done:      second,
			LastError: longest,
			Message:   strings.Repeat("é", 1000) + " ..." + advice,
		},
		"an error cut at half an é": {
			Phase:       "Waiting",
			Reason:      "WaitingForRetry",
			Kind:        "Reconciling",
			NextAttempt: second,
			LastError:   half,
			Message:     "x" + strings.Repeat("é", 1000) + "; tried again at 2026-03-01T12:00:00Z",
		},
	}
	for name, row := range rows() {
		t.Run(name, func(t *testing.T) {
			callRecording := &v1alpha1.CallRecording{ObjectMeta: metav1.ObjectMeta{Name: "r", Generation: 3}}
			mirror(callRecording, row)
			if err := conditions.Check(callRecording); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want[name], shownOf(callRecording)); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
			if callRecording.Status.ObservedGeneration != 3 {
				t.Errorf("observedGeneration is %d", callRecording.Status.ObservedGeneration)
			}
		})
	}
}

// TestMirrorForgetsTheStateBefore verifies that a row leads to the same status from each earlier state.
func TestMirrorForgetsTheStateBefore(t *testing.T) {
	meta := metav1.ObjectMeta{Name: "r", Generation: 1}
	for from, before := range rows() {
		for to, row := range rows() {
			t.Run(from+" to "+to, func(t *testing.T) {
				got := &v1alpha1.CallRecording{ObjectMeta: meta}
				want := &v1alpha1.CallRecording{ObjectMeta: meta}
				mirror(got, before)
				mirror(got, row)
				mirror(want, row)
				byType := cmpopts.SortSlices(func(a, b metav1.Condition) bool { return a.Type < b.Type })
				if diff := cmp.Diff(
					want.Status, got.Status, byType, cmpopts.IgnoreFields(metav1.Condition{}, "LastTransitionTime"),
				); diff != "" {
					t.Errorf("status (-want +got):\n%s", diff)
				}
				if err := conditions.Check(got); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestCut(t *testing.T) {
	tests := map[string]struct {
		in   string
		n    int
		want string
	}{
		"empty":              {"", 3, ""},
		"shorter":            {"ab", 3, "ab"},
		"exact":              {"abc", 3, "abc"},
		"longer":             {"abcd", 3, "abc"},
		"between characters": {"éé", 2, "é"},
		"within one":         {"éé", 3, "é"},
		"within the first":   {"😀", 3, ""},
		"nothing":            {"abc", 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := cut(tt.in, tt.n); got != tt.want || !utf8.ValidString(got) {
				t.Errorf("cut(%q, %d) = %q, want %q", tt.in, tt.n, got, tt.want)
			}
		})
	}
}
