package controllertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// Write is one write to the API server.
type Write struct {
	Verb   string        // "patch status" for a patch of the status
	Object client.Object // as it was sent
	At     time.Time
}

// String returns the verb and the kind, such as "create *v1.Job".
func (w Write) String() string { return fmt.Sprintf("%s %T", w.Verb, w.Object) }

// Writes records the writes of a client.
type Writes struct {
	mu   sync.Mutex
	list []Write
}

// All returns the writes so far.
func (w *Writes) All() []Write {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

func (w *Writes) add(verb string, o client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, Write{verb, o.DeepCopyObject().(client.Object), time.Now()})
}

// Funcs record the writes of a client that interceptor.NewClient makes. Server-side apply is not recorded.
func (w *Writes) Funcs() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			w.add("create", o)
			return c.Create(ctx, o, opts...)
		},
		Patch: func(
			ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption,
		) error {
			w.add("patch", o)
			return c.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			w.add("delete", o)
			return c.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch,
			opts ...client.SubResourcePatchOption,
		) error {
			w.add("patch "+sub, o)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}
