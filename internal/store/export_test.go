package store

// connected is a handle of any role.
type connected interface{ connection() *base }

func (d *base) connection() *base { return d }

// AsOperator returns the operator's methods on the connections of another role, which PostgreSQL has to reject.
func AsOperator(handle connected) *Operator { return &Operator{common{handle.connection()}} }

// AsUpload returns the methods of upload pods on the connections of another role.
func AsUpload(handle connected) *Upload { return &Upload{handle.connection()} }
