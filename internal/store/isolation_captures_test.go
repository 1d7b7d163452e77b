package store_test

import (
	"context"
	"fmt"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

const bothCapture = "00000000000000fd"

// capturing are the methods for captures. Each is asked for acme's, and finds that one alone.
func capturing() map[string]call {
	ours := store.CaptureRef{Tenant: acme, ID: bothCapture}
	row := func(id string) store.Capture {
		return store.Capture{
			CaptureRef: store.CaptureRef{Tenant: acme, ID: id},
			Session:    bothStream,
			Pod:        "pod",
			Bucket:     "b",
			Key:        "k",
			CreatedAt:  time.Now(),
		}
	}
	only := func(held map[store.CaptureRef]bool, err error) (any, error) {
		if (len(held) != 1 || !held[ours]) && err == nil {
			err = fmt.Errorf("%v were found", held)
		}
		return held, err
	}
	return map[string]call{
		"BeginCapture": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return nil, db.BeginCapture(ctx, row("00000000000000aa"))
		},
		"RefuseCapture": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return nil, db.RefuseCapture(ctx, row("00000000000000ab"), "NoRoom", "no room")
		},
		"SetCaptureUpload": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return nil, db.SetCaptureUpload(ctx, ours, "pod", "upload")
		},
		"FinishCapture": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return nil, db.FinishCapture(ctx, ours, "pod", store.CaptureEnd{Size: 1})
		},
		"HeartbeatCaptures": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return only(db.HeartbeatCaptures(ctx, "pod", []store.CaptureRef{ours}))
		},
		"ReleaseCaptures": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return nil, db.ReleaseCaptures(ctx, "pod", []store.CaptureRef{ours})
		},
		"ClaimCaptures": func(ctx context.Context, db *store.Dataplane) (any, error) {
			list, err := db.ClaimCaptures(ctx, []string{acme}, "other", time.Minute, 10)
			if len(list) != 1 && err == nil {
				err = fmt.Errorf("%d were claimed", len(list))
			}
			return list, err
		},
		"OpenCapture": func(ctx context.Context, db *store.Dataplane) (any, error) {
			return db.OpenCapture(ctx, ours, "pod")
		},
	}
}
