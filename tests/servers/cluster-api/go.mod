// The CRDs of Cluster API are read from the module cache at test time; nothing is built and no file of it is kept here.
module kubectl-backup.io/tests/servers/cluster-api

go 1.25.0

require sigs.k8s.io/cluster-api v1.14.2
