#include "schema/validate.h"

const struct check_kind check_pod_kinds[] = {{NULL, NULL}};
