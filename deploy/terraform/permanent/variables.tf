variable "region" {
  description = "Region of everything."
  type        = string
}

variable "environment" {
  description = "Name of the environment, such as dev or prod."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.environment))
    error_message = "The environment must be 2 to 12 lower-case letters and digits, a letter first."
  }
}

variable "alert_emails" {
  description = "Who is told by e-mail. Each confirms once."
  type        = set(string)

  validation {
    condition     = length(var.alert_emails) > 0
    error_message = "Someone must be told when anything breaks."
  }
}

variable "cooler_after_days" {
  description = "Days after which objects move to STANDARD_IA, and three times that to GLACIER_IR."
  type        = number
  default     = 60
}
