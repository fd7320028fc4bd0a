#include "schema/validate.h"

const struct check_kind check_workload_kinds[] = {{NULL, NULL}};
