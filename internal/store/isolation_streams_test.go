package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

// streaming are the methods for audio streams. Each is asked for acme's, and finds that one alone.
func streaming() map[string]call {
	ours := store.StreamRef{Tenant: acme, ID: bothStream}
	one := func(n any, err error) (any, error) {
		if fmt.Sprint(n) != "1" && err == nil {
			err = fmt.Errorf("%v were found", n)
		}
		return n, err
	}
	only := func(list []store.StreamRef, err error) (any, error) {
		if diff := cmp.Diff([]store.StreamRef{ours}, list); diff != "" && err == nil {
			err = fmt.Errorf("(-want +got):\n%s", diff)
		}
		return list, err
	}
	return map[string]call{
		"AdmitStream": func(ctx context.Context, db *store.Dataplane) (any, error) {
			if err := db.AdmitStream(ctx, acme, store.NewStream{
				ID:  store.NewID(),
				Pod: "pod",
			}, 1); !errors.Is(err, store.ErrStreamLimit) {
				return nil, fmt.Errorf("over the limit: %w", err)
			}
			return nil, db.AdmitStream(ctx, acme, store.NewStream{ID: store.NewID(), Pod: "pod"}, 2)
		},
		"HeartbeatStreams": func(ctx context.Context, db *store.Dataplane) (any, error) {
			alive, err := db.HeartbeatStreams(ctx, []store.StreamBeat{{StreamRef: ours, StreamSID: "s"}})
			return one(len(alive), err)
		},
		"EndStreams": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return one(db.EndStreams(ctx, []store.StreamEnd{{StreamRef: ours, Reason: "call_ended"}}))
		},
		"ReapStreams": func(ctx context.Context, db *store.Dataplane) (any, error) {
			n, _, err := db.ReapStreams(ctx, []string{acme}, time.Minute, 10)
			return one(n, err)
		},
		"StreamSessions": func(ctx context.Context, db *store.Dataplane) (any, error) {
			list, _, err := db.StreamSessions(ctx, acme, store.StreamFilter{CallSID: bothCall})
			return one(len(list), err)
		},
		"StreamByID": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.StreamByID(ctx, acme, bothStream)
		},
		"CloseStream": func(ctx context.Context, db *store.Dataplane) (any, error) {
			another := store.NewStream{ID: store.NewID(), Pod: "pod"}
			if err := db.AdmitStream(ctx, acme, another, 10); err != nil {
				return nil, err
			}
			return db.CloseStream(ctx, acme, another.ID, store.Origin{ActorID: bothUser})
		},
		"CloseStreams": func(ctx context.Context, db *store.Dataplane) (any, error) {
			if err := db.AdmitStream(ctx, acme, store.NewStream{ID: store.NewID(), Pod: "pod"}, 10); err != nil {
				return nil, err
			}
			n, err := db.CloseStreams(ctx, acme, store.Origin{ActorID: bothUser})
			if n != 2 && err == nil {
				err = fmt.Errorf("%d are being closed", n)
			}
			return n, err
		},
		"PodStreams": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return only(db.PodStreams(ctx, []string{acme}, "pod", 10))
		},
		"StreamsToClose": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return only(db.StreamsToClose(ctx, []string{acme}, "pod"))
		},
	}
}
