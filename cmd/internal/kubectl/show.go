package kubectl

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/adminapi/client"
)

// showing is how one object of a resource is read and printed.
type showing[T any] struct {
	resource string
	// name returns what the commands take as an argument, and print prints the fields for people.
	name  func(T) string
	print func(cmd *cobra.Command, found T)
}

// showAndPrint reads the object that an argument names, and prints it in the format of --output.
func showAndPrint[T any](cmd *cobra.Command, where *scope, argument string, how showing[T]) error {
	o, err := where.object(argument)
	if err != nil {
		return err
	}
	c, done, err := where.session.Client()
	if err != nil {
		return err
	}
	defer done()
	found, err := get[T](cmd.Context(), c, how.resource, o)
	if err != nil {
		return err
	}
	switch where.output {
	case outputJSON, outputYAML:
		return printObject(cmd, where.output, found)
	case outputName:
		cmd.Println(how.name(found))
	default:
		how.print(cmd, found)
	}
	return nil
}

// get reads one object of a resource.
func get[T any](ctx context.Context, c *client.Client, resource string, o object) (found T, err error) {
	return found, c.Get(ctx, adminapi.Path(o.namespace, resource, o.id), query(o.tenant), &found)
}
