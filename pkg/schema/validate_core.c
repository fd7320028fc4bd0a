#include "schema/validate.h"

const struct check_kind check_core_kinds[] = {{NULL, NULL}};
