package callrecording

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

const (
	rowPending, rowLeased, rowUploaded, rowFailed = store.StatePending, store.StateLeased, store.StateUploaded, store.StateFailed
)

// TestRefused verifies that a CallRecording that cannot be queued says why and what to do, and is not queued.
func TestRefused(t *testing.T) {
	tests := map[string]struct {
		tenant    func(*testing.T, *subject)
		recording func(*v1alpha1.CallRecording)
		want      string // reason
		condition string
		message   string
	}{
		"no such Tenant": {
			func(*testing.T, *subject) {},
			nil,
			"TenantNotFound",
			"Stalled",
			`there is no Tenant "support"`,
		},
		"a Tenant that is not ready": {func(t *testing.T, r *subject) {
			o := r.Tenant(t, "support")
			base := o.DeepCopy()
			o.Status.ConfigDigest = ""
			if err := r.Client.Status().Patch(t.Context(), o, client.MergeFrom(base)); err != nil {
				t.Fatal(err)
			}
		}, nil, "TenantNotReady", "Reconciling", "see its conditions"},
		"a Tenant that is being deleted": {func(t *testing.T, r *subject) {
			o := r.Tenant(t, "support", func(o *v1alpha1.Tenant) { o.Finalizers = []string{v1alpha1.FinalizerTenant} })
			if err := r.Client.Delete(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}, nil, "TenantNotReady", "Reconciling", "being deleted"},
		"a private address": {
			func(t *testing.T, r *subject) { r.Tenant(t, "support") },
			func(o *v1alpha1.CallRecording) { o.Spec.SourceURL = "https://169.254.169.254/latest" },
			"SourceRefused",
			"Stalled",
			"--allowed-source-cidrs",
		},
		"a host off the list": {
			func(t *testing.T, r *subject) { r.Tenant(t, "support") },
			func(o *v1alpha1.CallRecording) { o.Spec.SourceURL = "https://example.com/a.mp3" },
			"SourceRefused",
			"Stalled",
			"spec.recordings.allowedSourceHosts",
		},
		"a default host off a list of one's own": {func(t *testing.T, r *subject) {
			r.Tenant(
				t,
				"support",
				func(o *v1alpha1.Tenant) { o.Spec.Recordings.AllowedSourceHosts = []string{"example.com"} },
			)
		}, nil, "SourceRefused", "Stalled", "spec.recordings.allowedSourceHosts"},
		"plain http": {
			func(t *testing.T, r *subject) { r.Tenant(t, "support") },
			func(o *v1alpha1.CallRecording) { o.Spec.SourceURL = "http://recordings.exotel.com/a.mp3" },
			"SourceRefused",
			"Stalled",
			"must be https",
		},
		"the seventeenth of its call": {func(t *testing.T, r *subject) {
			callRecording := &v1alpha1.CallRecording{ObjectMeta: r.Tenant(t, "support").ObjectMeta}
			for i := range 16 {
				callRecording.Spec = v1alpha1.CallRecordingSpec{
					TenantRef: v1alpha1.TenantReference{Name: "support"},
					CallSID:   "call-1",
					SourceURL: fmt.Sprintf("https://x/%d", i),
				}
				r.enqueue(t, callRecording)
			}
		}, nil, "SourceRefused", "Stalled", "(16)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			tt.tenant(t, r)
			change := tt.recording
			if change == nil {
				change = func(*v1alpha1.CallRecording) {}
			}
			callRecording, _ := r.reconcile(t, r.apply(t, "by-hand", change))
			c := apimeta.FindStatusCondition(callRecording.Status.Conditions, tt.condition)
			if c == nil || c.Reason != tt.want || !strings.Contains(c.Message, tt.message) {
				t.Errorf("%s is %+v, want reason %s and %q", tt.condition, c, tt.want, tt.message)
			}
			if callRecording.Status.Phase != "" || callRecording.Status.RecordingID == "" {
				t.Errorf(
					"phase %q and id %q, want none and its id",
					callRecording.Status.Phase,
					callRecording.Status.RecordingID,
				)
			}
			if _, ok := r.row(t, callRecording); ok {
				t.Error("it was queued all the same")
			}
			if got := r.told(); len(got) > 0 {
				t.Errorf("events: %v", got)
			}
		})
	}
}

// TestRowOfATenantThatGoes verifies what a row shows while its Tenant exists, is being deleted, and is deleted.
func TestRowOfATenantThatGoes(t *testing.T) {
	type seen struct {
		Phase  v1alpha1.RecordingPhase
		Reason string
	}
	tests := map[store.RecordingState]struct{ there, deleting, gone seen }{
		rowPending:  {seen{"Pending", "Queued"}, seen{"", "TenantNotReady"}, seen{"", "TenantNotFound"}},
		rowLeased:   {seen{"Uploading", "Uploading"}, seen{"", "TenantNotReady"}, seen{"", "TenantNotFound"}},
		rowUploaded: {seen{"Uploaded", "Uploaded"}, seen{"Uploaded", "Uploaded"}, seen{"Uploaded", "Uploaded"}},
		rowFailed:   {seen{"Failed", "UploadFailed"}, seen{"Failed", "UploadFailed"}, seen{"Failed", "UploadFailed"}},
	}
	for state, tt := range tests {
		t.Run(string(state), func(t *testing.T) {
			rig := newSubject(t)
			tenant := rig.Tenant(
				t, "support", func(o *v1alpha1.Tenant) { o.Finalizers = []string{v1alpha1.FinalizerTenant} },
			)
			old := rig.apply(t, "before")
			rig.reconcile(t, old)
			rig.pods(t).drive(t, state)
			look := func(want seen) {
				t.Helper()
				callRecording, _ := rig.reconcile(t, rig.apply(t, fmt.Sprintf("look-%d", len(rig.written()))))
				if diff := cmp.Diff(want, seen{callRecording.Status.Phase, reasonOf(callRecording)}); diff != "" {
					t.Errorf("a new CallRecording (-want +got):\n%s", diff)
				}
				if row, ok := rig.row(t, callRecording); !ok || row.State != state {
					t.Errorf("the row is %+v", row)
				}
			}
			look(tt.there)
			if err := rig.Client.Delete(t.Context(), tenant); err != nil {
				t.Fatal(err)
			}
			look(tt.deleting)
			base := tenant.DeepCopy()
			tenant.Finalizers = nil
			if err := rig.Client.Patch(t.Context(), tenant, client.MergeFrom(base)); err != nil {
				t.Fatal(err)
			}
			look(tt.gone)
			callRecording, _ := rig.reconcile(t, old)
			if got := reasonOf(callRecording); got != tt.gone.Reason {
				t.Errorf("the CallRecording of before says %s, want %s", got, tt.gone.Reason)
			}
		})
	}
}

// TestRowsOfADeletedTenantAreNotPutBack verifies that the reconcile of a CallRecording does not restore a row of a
// Tenant that is being deleted.
func TestRowsOfADeletedTenantAreNotPutBack(t *testing.T) {
	rig := newSubject(t)
	tenant := rig.Tenant(t, "support", func(o *v1alpha1.Tenant) { o.Finalizers = []string{v1alpha1.FinalizerTenant} })
	waits := rig.apply(t, "waits")
	ended := rig.apply(t, "ended", func(o *v1alpha1.CallRecording) { o.Spec.CallSID = "call-2" })
	rig.reconcile(t, ended)
	rig.pods(t).fail(t)
	rig.reconcile(t, ended)
	rig.reconcile(t, waits)
	if err := rig.Client.Delete(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before its rows are deleted", "after"} {
		rig.annotate(t, ended, "again "+when)
		for _, o := range []*v1alpha1.CallRecording{waits, ended} {
			if now, _ := rig.reconcile(t, o); reasonOf(now) != "TenantNotReady" {
				t.Errorf("%s, %s: %s, want TenantNotReady", o.Name, when, reasonOf(now))
			}
		}
		if rig.counted.retries.Load() != 0 {
			t.Fatalf("%s, a row was put into the queue", when)
		}
		if err := rig.DB.DeleteTenant(t.Context(), tenant.ID()); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []*v1alpha1.CallRecording{waits, ended} {
		if row, ok := rig.row(t, o); ok {
			t.Errorf("%s has a row again: %+v", o.Name, row)
		}
	}
}

func TestRetry(t *testing.T) {
	type result struct {
		State    store.RecordingState
		Attempts int
		Phase    v1alpha1.RecordingPhase
		Handled  string
		Retries  int64
	}
	novel := strings.Repeat("é", 300)
	tests := map[string]struct {
		state  store.RecordingState
		values []string // one after the other, each looked at
		want   result
	}{
		"failed":                       {rowFailed, []string{"1"}, result{rowPending, 0, "Pending", "1", 1}},
		"failed, the same value again": {rowFailed, []string{"1", "1"}, result{rowPending, 0, "Pending", "1", 1}},
		"failed, a value longer than fits": {
			rowFailed,
			[]string{novel, novel},
			result{rowPending, 0, "Pending", novel[:256], 1},
		},
		"pending":          {rowPending, []string{"1"}, result{rowPending, 0, "Pending", "1", 1}},
		"leased":           {rowLeased, []string{"1"}, result{rowLeased, 0, "Uploading", "1", 0}},
		"uploaded":         {rowUploaded, []string{"1"}, result{rowUploaded, 1, "Uploaded", "1", 0}},
		"taken away again": {rowFailed, []string{"1", ""}, result{rowPending, 0, "Pending", "1", 1}},
		"no annotation":    {rowFailed, []string{""}, result{rowFailed, 1, "Failed", "", 0}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			rig.Tenant(t, "support")
			callRecording := rig.apply(t, "by-hand")
			rig.reconcile(t, callRecording)
			rig.pods(t).drive(t, tt.state)
			callRecording, _ = rig.reconcile(t, callRecording)
			for _, v := range tt.values {
				rig.annotate(t, callRecording, v)
				callRecording, _ = rig.reconcile(t, callRecording)
			}
			row, _ := rig.row(t, callRecording)
			got := result{
				row.State,
				row.Attempts,
				callRecording.Status.Phase,
				callRecording.Status.LastHandledRetry,
				rig.counted.retries.Load(),
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if (callRecording.Status.FinishedTime != nil) != (row.State == rowUploaded || row.State == rowFailed) {
				t.Errorf("finishedTime is %v of a row that is %s", callRecording.Status.FinishedTime, row.State)
			}
		})
	}
}

// TestEachRetryActsOnce verifies that each value of the annotation starts one round of attempts. After a failed round
// only another value starts the next. A value from before the failure does not count.
func TestEachRetryActsOnce(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	pods := rig.pods(t)
	callRecording := rig.apply(
		t,
		"by-hand",
		func(o *v1alpha1.CallRecording) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "0"} },
	)
	rig.reconcile(t, callRecording)
	pods.fail(t)
	callRecording, _ = rig.reconcile(t, callRecording)
	for _, step := range []struct {
		value string
		again bool
	}{{"0", false}, {"1", true}, {"1", false}, {"2", true}} {
		rig.annotate(t, callRecording, step.value)
		callRecording, _ = rig.reconcile(t, callRecording)
		row, _ := rig.row(t, callRecording)
		if again := row.State == store.StatePending; again != step.again {
			t.Fatalf("after value %q the row is %s", step.value, row.State)
		}
		if !step.again {
			continue
		}
		if row.Attempts != 0 {
			t.Errorf("the round begins with %d attempts", row.Attempts)
		}
		pods.fail(t)
		if callRecording, _ = rig.reconcile(
			t, callRecording,
		); callRecording.Status.Phase != v1alpha1.RecordingPhaseFailed {
			t.Errorf("after value %q it is %s", step.value, callRecording.Status.Phase)
		}
	}
	warning := "Warning UploadFailed the source says 410"
	told := rig.told()
	if len(told) != 3 || slices.ContainsFunc(told, func(e string) bool { return !strings.HasPrefix(e, warning) }) {
		t.Errorf("events %q, want one of each of the three failures", told)
	}
}

// TestRetryOfAWaitingOne verifies that a recording that waits for its next attempt becomes due at once, with all
// attempts.
func TestRetryOfAWaitingOne(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	pods := rig.pods(t)
	callRecording := rig.apply(t, "by-hand")
	rig.reconcile(t, callRecording)
	pods.later(t, pods.claim(t), time.Now().Add(time.Hour))
	if callRecording, _ = rig.reconcile(
		t, callRecording,
	); callRecording.Status.Phase != v1alpha1.RecordingPhaseWaiting ||
		*callRecording.Status.Attempts != 1 {
		t.Fatalf("it is %s after %d attempts", callRecording.Status.Phase, *callRecording.Status.Attempts)
	}
	rig.annotate(t, callRecording, "now")
	callRecording, _ = rig.reconcile(t, callRecording)
	if row, _ := rig.row(t, callRecording); row.Attempts != 0 || time.Until(row.AvailableAt) > 0 ||
		*callRecording.Status.Attempts != 0 {
		t.Errorf(
			"the row has %d attempts and is due at %s; shown are %d",
			row.Attempts,
			row.AvailableAt,
			*callRecording.Status.Attempts,
		)
	}
	pods.upload(t)
}

func TestTTL(t *testing.T) {
	hour := func(n int) func(*v1alpha1.Tenant) {
		return func(o *v1alpha1.Tenant) {
			o.Spec.Recordings.TTLAfterFinished = &metav1.Duration{Duration: time.Duration(n) * time.Hour}
		}
	}
	tests := map[string]struct {
		ttl    func(*v1alpha1.Tenant)
		state  store.RecordingState
		before func(*testing.T, *subject, *v1alpha1.CallRecording) // between its end and the look at it
		want   time.Duration                                       // until it goes; 0: gone, -1: stays
	}{
		"at once, uploaded": {hour(0), rowUploaded, nil, 0},
		"at once, failed":   {hour(0), rowFailed, nil, 0},
		"not finished":      {hour(0), rowPending, nil, -1},
		"being uploaded":    {hour(0), rowLeased, nil, -1},
		"in two hours":      {hour(2), rowUploaded, nil, 2 * time.Hour},
		"by default":        {func(*v1alpha1.Tenant) {}, rowUploaded, nil, time.Hour},
		"the Tenant is gone": {hour(2), rowUploaded, func(t *testing.T, r *subject, _ *v1alpha1.CallRecording) {
			if err := r.Client.DeleteAllOf(
				t.Context(), &v1alpha1.Tenant{}, client.InNamespace(r.Namespace),
			); err != nil {
				t.Fatal(err)
			}
		}, time.Hour},
		"a retry that was handled and taken away": {
			hour(2),
			rowUploaded,
			func(t *testing.T, r *subject, o *v1alpha1.CallRecording) {
				for _, v := range []string{"1", ""} {
					r.annotate(t, o, v)
					r.reconcile(t, o)
				}
			},
			2 * time.Hour,
		},
		"a retry longer than the status": {
			hour(2),
			rowUploaded,
			func(t *testing.T, r *subject, o *v1alpha1.CallRecording) {
				r.annotate(t, o, strings.Repeat("x", 300))
			},
			2 * time.Hour,
		},
		"a retry asked for in the last moment": {
			hour(0),
			rowFailed,
			func(t *testing.T, r *subject, o *v1alpha1.CallRecording) { r.annotate(t, o, "1") },
			-1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t)
			r.Tenant(t, "support", tt.ttl)
			callRecording := r.apply(t, "by-hand")
			r.reconcile(t, callRecording)
			r.pods(t).drive(t, tt.state)
			if _, err := r.rec.Reconcile(
				t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(callRecording)},
			); err != nil { // shows the end
				t.Fatal(err)
			}
			if tt.before != nil {
				tt.before(t, r, r.read(t, callRecording))
			}
			now, result := r.reconcile(t, callRecording)
			if (now == nil) != (tt.want == 0) {
				t.Fatalf("it is %v", now)
			}
			if left := max(tt.want, 0); result.RequeueAfter > left || result.RequeueAfter < left-time.Minute {
				t.Errorf("looked at again after %s, want %s", result.RequeueAfter, left)
			}
			if _, ok := r.row(t, callRecording); !ok {
				t.Error("the recording's row went with it")
			}
		})
	}
}

// TestAppliedAgain verifies that a CallRecording that is applied again shows at once how its recording ended, however
// long ago. It stays as long as a new one.
func TestAppliedAgain(t *testing.T) {
	for state, want := range map[store.RecordingState]v1alpha1.RecordingPhase{
		rowUploaded: "Uploaded",
		rowFailed:   "Failed",
	} {
		t.Run(string(state), func(t *testing.T) {
			rig := newSubject(t)
			rig.Tenant(t, "support")
			callRecording := rig.apply(t, "by-hand")
			rig.reconcile(t, callRecording)
			rig.pods(t).drive(t, state)
			if err := rig.Client.Delete(
				t.Context(), callRecording,
			); err != nil { // by a person: nothing holds it, and the row stays
				t.Fatal(err)
			}
			if now, _ := rig.reconcile(t, callRecording); now != nil {
				t.Fatalf("deleted, it is %+v", now)
			}
			rig.PG.Exec(t, `UPDATE recording_history SET finished_at = now() - interval '40 days'`)
			now, result := rig.reconcile(t, rig.apply(t, "by-hand"))
			if now == nil || now.Status.Phase != want {
				t.Fatalf("applied again: %+v", now)
			}
			if time.Since(now.Status.FinishedTime.Time) < 39*24*time.Hour || result.RequeueAfter < 59*time.Minute {
				t.Errorf("finished at %s, looked at again after %s", now.Status.FinishedTime, result.RequeueAfter)
			}
			if row, _ := rig.row(t, callRecording); row.State != state {
				t.Errorf("the row is %s", row.State)
			}
		})
	}
}

// TestRowIsNoLongerKept verifies that a recording whose row has expired is not queued again, and does not pretend to
// wait.
func TestRowIsNoLongerKept(t *testing.T) {
	rig := newSubject(t)
	rig.Tenant(t, "support")
	callRecording := rig.apply(t, "first")
	rig.reconcile(t, callRecording)
	rig.pods(t).upload(t)
	rig.reconcile(t, callRecording)
	rig.PG.Exec(t, `DELETE FROM recording_history`)
	if first, _ := rig.reconcile(t, callRecording); first.Status.Phase != v1alpha1.RecordingPhaseUploaded {
		t.Errorf("the one that saw it end says %s", first.Status.Phase)
	}
	second, _ := rig.reconcile(t, rig.apply(t, "second"))
	if condition := apimeta.FindStatusCondition(
		second.Status.Conditions, v1alpha1.ConditionStalled,
	); condition == nil || condition.Reason != v1alpha1.ReasonFailed ||
		second.Status.Phase != "" {
		t.Errorf("a new one says %q with %+v", second.Status.Phase, condition)
	}
}

// TestEvents verifies that a CallRecording of intake gets an event only when it failed, and that one of a user gets
// each event.
func TestEvents(t *testing.T) {
	warning := []string{
		"Warning UploadFailed the source says 410; correct it and set the annotation voice.caly.dev/retry to a new value to try again",
	}
	tests := map[string]struct {
		origin string
		state  store.RecordingState
		want   []string
	}{
		"a person's, uploaded": {"", rowUploaded, []string{"Normal Uploaded uploaded to acme/k and verified"}},
		"intake's, uploaded":   {v1alpha1.OriginIntake, rowUploaded, nil},
		"a person's, failed":   {"", rowFailed, warning},
		"intake's, failed":     {v1alpha1.OriginIntake, rowFailed, warning},
		"pending":              {"", rowPending, nil},
		"leased":               {"", rowLeased, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			rig.Tenant(t, "support")
			callRecording := rig.apply(t, "by-hand", func(o *v1alpha1.CallRecording) {
				if tt.origin != "" {
					o.Labels = map[string]string{v1alpha1.LabelOrigin: tt.origin}
				}
			})
			rig.reconcile(t, callRecording)
			rig.pods(t).drive(t, tt.state)
			callRecording, _ = rig.reconcile(t, callRecording)
			if tt.state == rowUploaded { // the status changes, and the recording does not
				rig.annotate(t, callRecording, "again")
			}
			rig.reconcile(t, callRecording)
			if diff := cmp.Diff(tt.want, rig.told()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestQueuedByHandIsViewed verifies that a queued CallRecording marks its row, so that intake does not create a second
// one.
func TestQueuedByHandIsViewed(t *testing.T) {
	rig := newSubject(t)
	tenant := rig.Tenant(t, "support")
	rig.reconcile(t, rig.apply(t, "by-hand"))
	left, err := rig.DB.Unviewed(t.Context(), tenant.ID(), store.Wanted{Queued: true, Limit: 10})
	if err != nil || len(left) != 0 {
		t.Errorf("intake would make CallRecordings of %v, %v", left, err)
	}
}

func TestTenantChanged(t *testing.T) {
	was := v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 2},
		Status:     v1alpha1.TenantStatus{ConfigDigest: "d", Backlog: ptr.To[int32](3)},
	}
	tests := map[string]struct {
		change func(*v1alpha1.Tenant)
		want   bool
	}{
		"nothing":        {func(*v1alpha1.Tenant) {}, false},
		"the backlog":    {func(o *v1alpha1.Tenant) { o.Status.Backlog = ptr.To[int32](4) }, false},
		"the spec":       {func(o *v1alpha1.Tenant) { o.Generation = 3 }, true},
		"the config":     {func(o *v1alpha1.Tenant) { o.Status.ConfigDigest = "e" }, true},
		"another Tenant": {func(o *v1alpha1.Tenant) { o.UID = "v" }, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			is := was.DeepCopy()
			tt.change(is)
			if got := tenantChanged.Update(updateOf(&was, is)); got != tt.want {
				t.Errorf("passed on: %t, want %t", got, tt.want)
			}
		})
	}
}

// TestFault shows errors of the database in the conditions, without the words of PostgreSQL.
func TestFault(t *testing.T) {
	tests := map[string]struct {
		err  error
		want string
	}{
		"away":        {fmt.Errorf("%w: connection refused", store.ErrUnavailable), "DatabaseUnavailable"},
		"refused":     {&store.ServerError{Code: "42501", Message: "permission denied"}, "DatabaseUnavailable"},
		"another one": {errors.New("the API server is away"), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reason, message := fault(tt.err)
			if reason != tt.want || (message == "") != (tt.want == "") {
				t.Errorf("got %q and %q, want %q", reason, message, tt.want)
			}
			if strings.Contains(message, "permission") {
				t.Errorf("the message shows what PostgreSQL said: %s", message)
			}
		})
	}
}
