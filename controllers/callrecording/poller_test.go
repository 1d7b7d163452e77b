package callrecording

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// pollerOf polls the given CallRecordings, as a cache would list them.
func (r *subject) pollerOf(items *[]v1alpha1.CallRecording) *poller {
	list := func(_ context.Context, _ client.WithWatch, into client.ObjectList, _ ...client.ListOption) error {
		into.(*v1alpha1.CallRecordingList).Items = *items
		return nil
	}
	return &poller{
		client:  interceptor.NewClient(r.Client, interceptor.Funcs{List: list}),
		store:   r.counted,
		changed: make(chan event.GenericEvent, 2000),
	}
}

// woken polls once and returns the names of those it woke.
func woken(t *testing.T, p *poller) (names []string) {
	t.Helper()
	if err := p.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(p.changed) > 0 {
		names = append(names, (<-p.changed).Object.GetName())
	}
	return names
}

func (r *subject) item(name string, phase v1alpha1.RecordingPhase) v1alpha1.CallRecording {
	return v1alpha1.CallRecording{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: name, UID: types.UID(name)},
		Spec: v1alpha1.CallRecordingSpec{
			TenantRef: v1alpha1.TenantReference{Name: "support"},
			CallSID:   name,
			SourceURL: "https://x/" + name,
		},
		Status: v1alpha1.CallRecordingStatus{Phase: phase},
	}
}

func TestPollWakesWhoseRowChanged(t *testing.T) {
	rig := newSubject(t)
	waits := rig.item("waits", "Pending")
	ended := rig.item("ended", "Uploaded")
	refused := rig.item("refused", "")
	ended.Status.FinishedTime = &metav1.Time{Time: noon}
	items := []v1alpha1.CallRecording{waits, ended, refused}
	for i := range items {
		rig.enqueue(t, &items[i])
	}
	rig.PG.Exec(
		t,
		`UPDATE recordings SET available_at = CASE WHEN id = $1 THEN now() ELSE now() + interval '1 day' END`,
		keyOf(&waits).ID,
	)
	poller := rig.pollerOf(&items)
	pods := rig.pods(t)
	steps := []struct {
		name string
		do   func()
		want []string
	}{
		{"the first poll", func() {}, []string{"waits"}},
		{"nothing new", func() {}, nil},
		{"claimed", func() { pods.claim(t) }, []string{"waits"}},
		{"its lease renewed", func() {
			if _, err := pods.db.Heartbeat(t.Context(), "pod", []string{keyOf(&waits).ID}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{
			"an attempt failed",
			func() { pods.later(t, keyOf(&waits).ID, time.Now().Add(-time.Hour)) },
			[]string{"waits"},
		},
		{"claimed and done between two polls", func() { pods.upload(t) }, []string{"waits"}},
		{"done, and not shown yet", func() {}, nil},
		{"replaced under its name", func() { items[0].UID = "another" }, []string{"waits"}},
		{"shown", func() { items[0].Status.FinishedTime = &metav1.Time{Time: noon} }, nil},
		{"all gone", func() { items = nil }, nil},
	}
	for _, s := range steps {
		s.do()
		if diff := cmp.Diff(s.want, woken(t, poller)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
	if len(poller.seen) != 0 {
		t.Errorf("it remembers %v of CallRecordings that are gone", poller.seen)
	}
}

func TestPollAsksForManyAtOnce(t *testing.T) {
	tests := map[string]struct {
		open, ended int
		queries     int64
	}{
		"none":            {0, 0, 0},
		"ended ones only": {0, 1000, 0},
		"one":             {1, 10, 1},
		"a chunk":         {500, 0, 1},
		"one more":        {501, 0, 2},
		"many":            {1700, 300, 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t)
			var items []v1alpha1.CallRecording
			for i := range tt.open + tt.ended {
				callRecording := rig.item(fmt.Sprintf("r%d", i), "Pending")
				if i >= tt.open {
					callRecording.Status.FinishedTime = &metav1.Time{Time: noon}
				}
				items = append(items, callRecording)
			}
			poller := rig.pollerOf(&items)
			if got := len(woken(t, poller)); got != tt.open {
				t.Errorf("the first poll wakes %d, want %d", got, tt.open)
			}
			if got := len(woken(t, poller)); got != 0 {
				t.Errorf("the second wakes %d", got)
			}
			if got := rig.counted.recordings.Load(); got != 2*tt.queries {
				t.Errorf("%d queries in two polls, want %d", got, 2*tt.queries)
			}
		})
	}
}

// TestPollerEndsWhileItWaits verifies that a poller ends though nothing receives its events, as when the manager stops.
func TestPollerEndsWhileItWaits(t *testing.T) {
	rig := newSubject(t)
	items := []v1alpha1.CallRecording{rig.item("a", "Pending"), rig.item("b", "Pending")}
	poller := rig.pollerOf(&items)
	poller.changed = make(chan event.GenericEvent)
	leaks := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- poller.Start(ctx) }()
	<-poller.changed // it waits for somebody to take the second
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Start: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Start did not return")
	}
	goleak.VerifyNone(t, leaks)
	if len(poller.seen) != 0 {
		t.Errorf("what was not woken is remembered as woken: %v", poller.seen)
	}
}
